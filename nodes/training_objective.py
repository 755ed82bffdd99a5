"""Training Objective: what a run minimizes."""

from typing import Any

from comfy_api.latest import io, ui

from ..comfy_host.images import to_image
from ..trainer.families import FAMILIES
from ..trainer.objective.picture import draw_noise_levels
from ..trainer.settings.objective import ObjectiveConfig
from . import schema
from .checks import Refusal, refusal


class TrainingObjective(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            node_id="DAdaptTrainingObjective",
            display_name="Training Objective (DAdapt LoRA)",
            description=(
                "What Train minimizes: which noise levels how often, which loss, and which noise. Without"
                " this node it is what the model's family is usually trained with."
            ),
            search_aliases=["noise offset", "min snr gamma", "timestep sampling", "flow shift", "huber loss"],
            inputs=schema.inputs_of(ObjectiveConfig),
            outputs=[
                schema.Objective.Output(display_name="OBJECTIVE"),
                io.Image.Output(
                    display_name="noise_levels",
                    tooltip="How often each noise level is trained on; what is outside of the range is grey.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, input_types: dict[str, str], **inputs: Any) -> bool | Refusal:
        return refusal(inputs, input_types, ObjectiveConfig)

    @classmethod
    def execute(cls, **settings: Any) -> io.NodeOutput:
        config = ObjectiveConfig(**settings)
        customs = {family.name: family.noise for family in FAMILIES.values()}
        picture = to_image(draw_noise_levels(config, customs))
        return io.NodeOutput(config, picture, ui=ui.PreviewImage(picture, cls=cls))
