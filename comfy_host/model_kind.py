"""Which family a MODEL is of, and refusing one that cannot be trained."""

from ..trainer.errors import ModelError
from ..trainer.families import Family, family_of
from .sampling import NoiseLevels

# Networks whose output is no estimate that noise could teach.
_NOT_TRAINED = {"IMG_TO_IMG": "it makes a picture of a picture, in one step"}


def family_of_model(model) -> Family:
    """The family of a MODEL. Raises `ModelError` for one that cannot be trained."""
    sampling = model.get_model_object("model_sampling")
    classes = (base.__name__ for base in type(model.model.model_config).__mro__)
    family = family_of(classes, NoiseLevels(sampling).is_flow)
    for base in type(sampling).__mro__:
        if base.__name__ in _NOT_TRAINED:
            raise ModelError(
                f"This {family.name} model cannot be trained: {_NOT_TRAINED[base.__name__]}. Load an ordinary"
                " checkpoint."
            )
    _refuse_what_makes_no_pictures(model, family)
    return family


def _refuse_what_makes_no_pictures(model, family: Family) -> None:
    dimensions = model.model.latent_format.latent_dimensions
    if dimensions not in (2, 3):
        raise ModelError(
            f"{family.name} makes no pictures: its latents have {dimensions} dimensions. Expected a model of"
            " pictures or videos."
        )
