"""The parts of a model that can train. Their names are written here and nowhere else."""

UNET = "unet"
TEXT_ENCODER = "text_encoder"
PARTS = (UNET, TEXT_ENCODER)

_LABELS = {UNET: "UNet", TEXT_ENCODER: "text encoder"}


def label_of(part: str) -> str:
    """The part as a person calls it."""
    return _LABELS.get(part, part.replace("_", " "))
