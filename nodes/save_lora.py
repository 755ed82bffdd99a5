"""Save LoRA: a file that every tool loads."""

from dataclasses import asdict
from typing import Any

from comfy_api.latest import io

from ..comfy_host.output_files import lora_path
from ..comfy_host.progress import show
from ..comfy_host.saving import save_lora, times_lost
from ..trainer.settings.lora_file import OVERWRITE, LoraFileConfig
from . import schema
from .checks import Refusal, refusal, refuse_wrong_links


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
                *schema.inputs_of(LoraFileConfig),
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
    def validate_inputs(cls, input_types: dict[str, str], **inputs: Any) -> bool | Refusal:
        return refusal(inputs, input_types, LoraFileConfig, links=["lora"], check=_check_name)

    @classmethod
    def fingerprint_inputs(cls, lora=None, filename=None, dtype=None, existing_file=None) -> str:
        """Changes when a file that was saved with these settings is gone or changed.

        It is saved again then.
        """
        overwrite = None if existing_file is None else existing_file == OVERWRITE
        return f"lost {times_lost(filename, dtype, overwrite)} times"

    @classmethod
    def execute(cls, lora: dict, **settings: Any) -> io.NodeOutput:
        refuse_wrong_links(lora=lora)
        file = LoraFileConfig(**settings)
        saved = save_lora(lora, file.filename, file.dtype, overwrite=file.existing_file == OVERWRITE)
        show(saved.text, cls.hidden.unique_id)
        return io.NodeOutput(saved.name, ui={"dadapt_lora": [asdict(saved)], "text": (saved.text,)})


def _check_name(filename: str | None = None, existing_file: str | None = None, **_: Any) -> None:
    """Raises `SettingError` for a name that no file can have. One that comes over a link is not known yet."""
    if filename is not None:
        lora_path(filename, overwrite=existing_file == OVERWRITE)
