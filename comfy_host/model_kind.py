"""Which family a MODEL is of, and refusing one that cannot be trained."""

import comfy.model_sampling
from torch import nn

from ..trainer.errors import ModelError
from ..trainer.families import Family, family_of


def family(model) -> Family:
    """The family of a MODEL. Raises `ModelError` for one that cannot be trained."""
    chosen = family_of(type(model.model.model_config).__name__)
    sampling = model.get_model_object("model_sampling")
    others = (comfy.model_sampling.V_PREDICTION, comfy.model_sampling.X0)  # which ComfyUI derives from EPS
    if not isinstance(sampling, comfy.model_sampling.EPS) or isinstance(sampling, others):
        raise ModelError(
            f"This {chosen.name} model predicts something other than noise ({_bases(sampling)}). Expected an"
            " eps-prediction model; remove a ModelSamplingDiscrete node before Train, or load another"
            " checkpoint."
        )
    channels = model.model.model_config.unet_config.get("in_channels")
    expected = model.model.latent_format.latent_channels
    if channels != expected:
        raise ModelError(
            f"This {chosen.name} model takes {channels} channels where a latent has {expected}: an inpainting"
            " or editing model, which cannot be trained yet. Load an ordinary checkpoint."
        )
    if not hasattr(sampling, "sigmas"):
        raise ModelError(
            f"This model has no table of noise levels ({_bases(sampling)}). Expected a model with discrete"
            " timesteps."
        )
    return chosen


def _bases(sampling: nn.Module) -> str:
    return ", ".join(base.__name__ for base in type(sampling).__bases__)
