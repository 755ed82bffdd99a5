"""LoRA Config: how large the LoRA is, and what it adapts."""

from comfy_api.latest import io

from ..trainer.errors import TrainerError
from ..trainer.settings.declare import limits_of
from ..trainer.settings.lora import SAME_AS_DIM, LoraConfig
from . import schema


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
                io.Combo.Input(
                    "alpha",
                    options=[SAME_AS_DIM],
                    default=SAME_AS_DIM,
                    tooltip=limits_of(LoraConfig)["alpha"][1].help,
                ),
                *schema.inputs_of(LoraConfig, ["train_unet", "train_text_encoder", "layers"]),
            ],
            outputs=[schema.LoraConfig.Output(display_name="LORA_CONFIG")],
        )

    @classmethod
    def validate_inputs(cls, dim=None, alpha=None) -> bool | str:
        if dim is None or alpha is None:  # from a link, not known yet; execute checks it
            return True
        try:
            LoraConfig(dim=dim, alpha=alpha)
        except TrainerError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, **settings) -> io.NodeOutput:
        return io.NodeOutput(LoraConfig(**settings))
