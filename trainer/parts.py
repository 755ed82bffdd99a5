"""The parts of a model that can train: the diffusion model, and each of its text encoders.

Text encoders have the names that ComfyUI gives them: clip_l, clip_g, t5xxl, gemma2_2b and so on.
"""

from collections.abc import Iterable

UNET = "unet"  # of whatever architecture: files and settings of all trainers call it so


# One of each kind of part, for what is set once for all text encoders.
KINDS = (UNET, "text_encoder")


def is_text_encoder(part: str) -> bool:
    return part != UNET


def text_encoders(parts: Iterable[str]) -> tuple[str, ...]:
    """The text encoders among `parts`."""
    return tuple(part for part in parts if is_text_encoder(part))


def label_of(part: str) -> str:
    """The part as a person calls it."""
    return "UNet" if part == UNET else f"text encoder {part}"
