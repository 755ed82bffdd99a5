"""The model that a run trains on: what it is, what of it trains, and that it can be trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..trainer.errors import SettingError
from ..trainer.families import Family
from ..trainer.optim.registry import refuse_missing_package
from ..trainer.parts import UNET
from ..trainer.precision import Precision, choose_precision
from .compute_dtype import compute_dtype, computing_in
from .job import Job
from .layers import TargetLayer, target_layers
from .loading import without_dynamic_loading
from .model_kind import family_of_model
from .refusals import refuse_missing, refuse_quantized
from .text_encoder import encoder_names


@dataclass(frozen=True)
class Subject:
    """A MODEL, CLIP and VAE of ComfyUI that can be trained on, and the precision to train in."""

    model: Any
    clip: Any
    vae: Any
    family: Family
    precision: Precision
    text_encoders: Sequence[str]  # that train
    layers: Sequence[TargetLayer]  # that are adapted

    @classmethod
    def of(cls, model, clip, vae, job: Job) -> "Subject":
        """Refuses what cannot be trained, before anything expensive begins.

        Raises `ModelError` for the model, `SettingError` for what was asked.
        """
        family = family_of_model(model)
        refuse_missing(clip, vae)
        encoders = job.lora.text_encoders_of(encoder_names(clip), family.text_encoders)
        recipe = job.recipe.resolved()
        recipe.refuse_stopping(_parts(job, encoders, family))
        refuse_missing_package(recipe)
        precision = choose_precision(job.run.precision, compute_dtype(model), model.load_device)
        model, clip = without_dynamic_loading(computing_in(model, precision.dtype), clip)
        refuse_quantized(model, clip if encoders else None)
        layers = target_layers(model, clip, family, job.lora, encoders)
        return cls(model, clip, vae, family, precision, encoders, layers)


def _parts(job: Job, encoders: Sequence[str], family: Family) -> list[str]:
    """The parts that train. Raises `SettingError` where there is none."""
    parts = [*([UNET] if job.lora.train_unet else []), *encoders]
    if not parts:
        raise SettingError(
            f"Nothing to train: train_unet is off, and no text encoder of {family.name} trains by default."
            " Name one at text_encoders of LoRA Config, or switch train_unet on."
        )
    return parts
