"""Save LoRA: a file that every tool loads."""

from collections.abc import Collection
from dataclasses import asdict

from comfy_api.latest import io

from ..comfy_host.output_files import lora_path
from ..comfy_host.progress import show
from ..comfy_host.saving import save_lora, times_lost
from ..trainer.errors import SettingError, TrainerError, shown
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
                "Writes the LoRA into output/loras, where Load LoRA lists it at once, and loads it back to"
                " check it."
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
                        "fp16 is what most people share: half the size of fp32, with no visible difference."
                    ),
                ),
                io.Combo.Input(
                    "existing_file",
                    options=[ADD_NUMBER, OVERWRITE],
                    default=ADD_NUMBER,
                    tooltip="What to do when there is a file of that name: write my_lora_2, or replace it.",
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
    def validate_inputs(cls, filename=None, dtype=None, existing_file=None) -> bool | str:
        """Checks what is known when the workflow is queued; a value that comes from a link is None.

        ComfyUI says what is wrong at this node, and still runs those that do not need it.
        """
        try:
            _check_choice("dtype", dtype, DTYPES)
            _check_choice("existing_file", existing_file, (ADD_NUMBER, OVERWRITE))
            if filename is not None:
                lora_path(filename, overwrite=existing_file == OVERWRITE)
        except TrainerError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lora=None, filename=None, dtype=None, existing_file=None) -> str:
        """Changes when a file that was saved with these settings is gone or changed, so that it is saved
        again.
        """
        overwrite = None if existing_file is None else existing_file == OVERWRITE
        return f"lost {times_lost(filename, dtype, overwrite)} times"

    @classmethod
    def execute(cls, lora, filename: str, dtype: str, existing_file: str) -> io.NodeOutput:
        _check_choice("dtype", dtype, DTYPES)  # again: a value from a link was not known before
        _check_choice("existing_file", existing_file, (ADD_NUMBER, OVERWRITE))
        saved = save_lora(lora, filename, dtype, overwrite=existing_file == OVERWRITE)
        show(saved.text, cls.hidden.unique_id)
        return io.NodeOutput(saved.name, ui={"dadapt_lora": [asdict(saved)], "text": (saved.text,)})


def _check_choice(name: str, value: object, choices: Collection[str]) -> None:
    if value is not None and (not isinstance(value, str) or value not in choices):
        raise SettingError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {shown(value)}.")
