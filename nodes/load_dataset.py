"""Load Dataset: a folder of pictures with captions."""

from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..comfy_host.dataset_folders import dataset_folders, find_dataset_folder
from ..comfy_host.images import to_image
from ..comfy_host.progress import Progress, show
from ..trainer.data.contact_sheet import contact_sheet
from ..trainer.data.dataset import OnPicture, read_dataset
from ..trainer.data.fingerprint import fingerprint
from ..trainer.data.folder import refuse_to_hold_out_twice
from ..trainer.data.problems import report_of
from ..trainer.settings.dataset import NO_FOLDER, DatasetConfig, FolderChoice
from . import schema
from .checks import Refusal, refusal


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
                schema.combo(FolderChoice, "folder", folders),
                *schema.inputs_of(DatasetConfig, ["trigger_word", "resolution", "heldout_share"]),
                schema.combo(FolderChoice, "heldout_folder", [NO_FOLDER, *folders]),
                *schema.inputs_of(DatasetConfig, ["broken_pictures"]),
            ],
            outputs=[
                schema.Dataset.Output(display_name="DATASET"),
                io.Image.Output(
                    display_name="contact_sheet",
                    tooltip="The pictures with their captions, at most 60; held-out ones in a blue frame.",
                ),
                io.String.Output(
                    display_name="report", tooltip="Pictures, repeats, sizes, and what is missing or broken."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, input_types: dict[str, str], **inputs: Any) -> bool | Refusal:
        return refusal(inputs, input_types, FolderChoice, DatasetConfig, check=_check_folders)

    @classmethod
    def fingerprint_inputs(cls, folder=None, heldout_folder=None, **settings) -> str:
        """The same while no picture, caption or setting changes. Inputs from links come as None."""
        if folder is None:
            return "linked"
        return fingerprint(*_folders_and_config(folder, heldout_folder, settings))

    @classmethod
    def execute(cls, folder: str, heldout_folder: str = NO_FOLDER, **settings: Any) -> io.NodeOutput:
        FolderChoice(folder, heldout_folder)  # checks them
        root, config, heldout_root = _folders_and_config(folder, heldout_folder, settings)
        on_picture = _shown_on(Progress(cls.hidden.unique_id))
        dataset = read_dataset(root, config, heldout_root, name=folder, on_picture=on_picture)
        report = report_of(dataset)
        show(report, cls.hidden.unique_id)
        sheet = to_image(contact_sheet(dataset))
        return io.NodeOutput(dataset, sheet, report, ui=ui.PreviewImage(sheet, cls=cls))


def _check_folders(
    folder: str | None = None, heldout_folder: str | None = None, heldout_share: float = 0, **_: Any
) -> None:
    """Raises `DatasetError` for a folder that is not there, and for two ways to hold pictures out. What comes
    over a link is not known yet.
    """
    for name in (folder, _chosen(heldout_folder)):
        if name is not None:
            find_dataset_folder(name)
    refuse_to_hold_out_twice(DatasetConfig(heldout_share=heldout_share), _chosen(heldout_folder))


def _shown_on(progress: Progress) -> OnPicture:
    """Shows how far the reading is; its calls raise ComfyUI's interrupt when somebody pressed cancel."""

    def on_picture(done: int, total: int) -> None:
        if done == 0:
            progress.phase("reading pictures", total)
        else:
            progress.tick(done)

    return on_picture


def _folders_and_config(
    folder: str, heldout_folder: str | None, settings: dict[str, Any]
) -> tuple[Path, DatasetConfig, Path | None]:
    """The arguments of `read_dataset` and of `fingerprint`. Settings that come from a link are not known yet
    and are left at their defaults.
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
