"""DAdapt Optimizer: the recipe."""

from typing import Any

from comfy_api.latest import io

from ..trainer.settings.optimizer import OptimizerConfig
from . import schema
from .checks import Refusal, refusal


class OptimizerNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            node_id="DAdaptOptimizer",
            display_name="DAdapt Optimizer (DAdapt LoRA)",
            description=(
                "How the LoRA learns: D-Adaptation, which finds the learning rate by itself; or another"
                " preset."
            ),
            search_aliases=["d-adaptation", "dadaptation", "prodigy", "adamw", "learning rate"],
            inputs=schema.inputs_of(OptimizerConfig),
            outputs=[schema.Optimizer.Output(display_name="OPTIMIZER")],
        )

    @classmethod
    def validate_inputs(cls, input_types: dict[str, str], **inputs: Any) -> bool | Refusal:
        return refusal(inputs, input_types, OptimizerConfig)

    @classmethod
    def execute(cls, **settings: Any) -> io.NodeOutput:
        return io.NodeOutput(OptimizerConfig(**settings))
