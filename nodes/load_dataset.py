"""Load Dataset: a folder of pictures with captions."""

from comfy_api.latest import io, ui

from ..comfy_host.dataset_folders import NO_FOLDER, dataset_folders, find_dataset_folder
from ..comfy_host.images import to_image
from ..comfy_host.progress import show
from ..trainer.data.contact_sheet import contact_sheet
from ..trainer.data.dataset import read_dataset
from ..trainer.data.fingerprint import fingerprint
from ..trainer.data.problems import report_of
from ..trainer.errors import TrainerError
from ..trainer.settings.dataset import DatasetConfig
from . import schema


class LoadDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        folders = dataset_folders()
        return schema.schema(
            node_id="DAdaptLoadDataset",
            display_name="Load Dataset (DAdapt LoRA)",
            description=(
                "Reads a folder of pictures, with their captions in text files beside them, to train a"
                " LoRA on."
            ),
            search_aliases=["training images", "captions", "dreambooth"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folders,
                    tooltip=(
                        "A folder below ComfyUI's input folder. Captions are text files beside the pictures:"
                        " cat.png, cat.txt. In a folder named 4_anything each picture is shown 4 times an"
                        " epoch. The machine's owner can register other folders as dadapt_datasets in"
                        " extra_model_paths.yaml."
                    ),
                ),
                *schema.inputs_of(DatasetConfig, ["trigger_word", "resolution", "heldout_share"]),
                io.Combo.Input(
                    "heldout_folder",
                    options=[NO_FOLDER, *folders],
                    default=NO_FOLDER,
                    tooltip=(
                        "A folder of pictures that are measured and never trained on, to see when the LoRA"
                        " starts to overtrain. Use this or the share above, not both."
                    ),
                ),
                *schema.inputs_of(DatasetConfig, ["broken_pictures"]),
            ],
            outputs=[
                schema.Dataset.Output(display_name="DATASET"),
                io.Image.Output(
                    display_name="contact_sheet",
                    tooltip="All pictures with their captions; held-out ones in a blue frame.",
                ),
                io.String.Output(
                    display_name="report", tooltip="Pictures, repeats, sizes, and what is missing or broken."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, folder=None, heldout_folder=None) -> bool | str:
        try:
            for name in filter(None, (folder, _chosen(heldout_folder))):
                find_dataset_folder(name)
        except TrainerError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder=None, heldout_folder=None, **settings) -> str:
        """The same while no picture, caption or setting changes. Inputs from links come as None."""
        if folder is None:
            return "linked"
        return fingerprint(*_folders_and_config(folder, heldout_folder, settings))

    @classmethod
    def execute(cls, folder, heldout_folder, **settings) -> io.NodeOutput:
        root, config, heldout_root = _folders_and_config(folder, heldout_folder, settings)
        dataset = read_dataset(root, config, heldout_root, name=folder)
        report = report_of(dataset)
        show(report, cls.hidden.unique_id)
        sheet = to_image(contact_sheet(dataset))
        return io.NodeOutput(dataset, sheet, report, ui=ui.PreviewImage(sheet, cls=cls))


def _folders_and_config(folder: str, heldout_folder: str | None, settings: dict):
    """Arguments of `read_dataset` and `fingerprint`; settings that come from a link are not known yet and are
    left at their defaults.
    """
    known = {name: value for name, value in settings.items() if value is not None}
    heldout = _chosen(heldout_folder)
    return (
        find_dataset_folder(folder),
        DatasetConfig(**known),
        find_dataset_folder(heldout) if heldout else None,
    )


def _chosen(heldout_folder: str | None) -> str | None:
    return None if heldout_folder in (None, NO_FOLDER) else heldout_folder
