"""Save LoRA: a file that every tool loads."""

from dataclasses import asdict

from comfy_api.latest import io

from ..comfy_host.folders import lora_path
from ..comfy_host.progress import show
from ..comfy_host.saving import save_lora
from ..trainer.errors import TrainerError
from ..trainer.precision import DTYPES
from . import schema

ADD_NUMBER, OVERWRITE = "add a number", "overwrite"


class SaveLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            node_id="DAdaptSaveLoRA",
            display_name="Save LoRA (DAdapt LoRA)",
            description=(
                "Writes the LoRA into output/loras, where Load LoRA lists it at once, and checks it by"
                " loading it back."
            ),
            search_aliases=["export lora", "safetensors"],
            inputs=[
                schema.LoraModel.Input("lora", tooltip="From Train."),
                io.String.Input(
                    "filename",
                    default="my_lora",
                    tooltip="Name of the file, without ending. 'styles/my_lora' makes a subfolder.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="fp16",
                    tooltip=(
                        "fp16 is what everybody shares: half the size of fp32, and no visible difference."
                    ),
                ),
                io.Combo.Input(
                    "existing_file",
                    options=[ADD_NUMBER, OVERWRITE],
                    default=ADD_NUMBER,
                    tooltip="What to do when there is a file of that name: my_lora_2, or write over it.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="lora_name", tooltip="The name under which Load LoRA lists the file."
                )
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename=None) -> bool | str:
        """When the workflow is queued: the host says so, and runs all but this node.

        A name that comes from a link is not known.
        """
        try:
            if filename is not None:
                lora_path(filename, overwrite=True)
        except TrainerError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, lora, filename, dtype, existing_file) -> io.NodeOutput:
        saved = save_lora(lora, filename, dtype, overwrite=existing_file == OVERWRITE)
        show(saved.text, cls.hidden.unique_id)
        return io.NodeOutput(saved.name, ui={"dadapt_lora": [asdict(saved)], "text": (saved.text,)})
