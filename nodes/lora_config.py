"""LoRA Config: how large the LoRA is, and what it adapts."""

from typing import Any

from comfy_api.latest import io

from ..trainer.settings.lora import SAME_AS_DIM, LoraConfig
from . import schema
from .checks import Refusal, refusal

# in the order in which they came: a saved workflow has its values by place
_AFTER_ALPHA = (
    *("train_unet", "train_text_encoder", "layers"),
    *("text_encoders", "conv_dim", "include", "exclude"),
)


class LoRAConfigNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            node_id="DAdaptLoRAConfig",
            display_name="LoRA Config (DAdapt LoRA)",
            description="Size of the LoRA and the parts of the model that it adapts. alpha is always dim.",
            search_aliases=["rank", "dim", "alpha"],
            inputs=[
                *schema.inputs_of(LoraConfig, ["dim"]),
                # a widget with one choice: it shows what alpha is, and lets a workflow that asks for another
                # be refused with the reason
                schema.combo(LoraConfig, "alpha", [SAME_AS_DIM]),
                *schema.inputs_of(LoraConfig, _AFTER_ALPHA),
            ],
            outputs=[schema.LoraConfig.Output(display_name="LORA_CONFIG")],
        )

    @classmethod
    def validate_inputs(cls, input_types: dict[str, str], **inputs: Any) -> bool | Refusal:
        return refusal(inputs, input_types, LoraConfig)

    @classmethod
    def execute(cls, **settings: Any) -> io.NodeOutput:
        return io.NodeOutput(LoraConfig(**settings))
