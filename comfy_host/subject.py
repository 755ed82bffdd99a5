"""The model that a run trains on: what it is, and that it can be trained."""

from dataclasses import dataclass
from typing import Any

from ..trainer.families import Family
from ..trainer.optim.registry import refuse_missing_package
from ..trainer.precision import Precision, choose_precision
from .compute_dtype import compute_dtype, computing_in
from .job import Job
from .loading import without_dynamic_loading
from .model_kind import family
from .refusals import refuse_missing, refuse_quantized


@dataclass(frozen=True)
class Subject:
    """A MODEL, CLIP and VAE of ComfyUI that can be trained on, and the precision to train in."""

    model: Any
    clip: Any
    vae: Any
    family: Family
    precision: Precision

    @classmethod
    def of(cls, model, clip, vae, job: Job) -> "Subject":
        """Refuses what cannot be trained, before anything expensive begins.

        Raises `ModelError` for the model, `SettingError` for what was asked.
        """
        chosen = family(model)
        refuse_missing(clip, vae)
        recipe = job.recipe.resolved()
        recipe.refuse_stopping(job.lora.parts)
        refuse_missing_package(recipe)
        precision = choose_precision(job.run.precision, compute_dtype(model), model.load_device)
        model, clip = without_dynamic_loading(computing_in(model, precision.dtype), clip)
        refuse_quantized(model)
        return cls(model, clip, vae, chosen, precision)
