"""What a person should hear of the model's family before the first step."""

import re
from collections.abc import Iterator

from ..parts import UNET, text_encoders
from ..settings.dataset import DatasetConfig
from ..settings.lora import AUTO, LoraConfig
from .facts import ModelFacts

DEFAULT_RESOLUTION = DatasetConfig.resolution
SMALL = 0.7  # of the resolution that a family was made for, below which pictures look otherwise to it

# Words in the names of checkpoints that are distilled to few steps, and of those that undid it.
_DISTILLED = re.compile(
    r"turbo|lightning|hyper|schnell|flash|\blcm|dmd2?\b|\btcd|distill|lightx2v|causvid|\d+[-_ ]?steps?\b",
    re.IGNORECASE,
)
_UNDONE = re.compile(r"de-?turbo|de-?distill|undistill|\braw\b|\bbase\b", re.IGNORECASE)


def family_warnings(model: ModelFacts, lora: LoraConfig, resolution: int) -> Iterator[str]:
    """One line on each thing that is not as somebody may expect."""
    if model.family.warning:
        yield model.family.warning
    if not model.family.has_row:
        yield (
            f"{model.family.name} is not in this pack's table of families: it trains by the generic row"
            " (every linear layer of its blocks, no text encoder), which nobody has tried"
        )
    words = _words(model.name)
    if _DISTILLED.search(words) and not _UNDONE.search(words):
        yield (
            f"{model.name} looks like a model that is distilled to few steps, which training on it undoes:"
            " train on the model that it was made of, whose LoRAs it takes"
        )
    made_for = model.family.resolution
    # Load Dataset's default suits SD 1.5: who sets less for it means to
    if resolution < SMALL * made_for and made_for > DEFAULT_RESOLUTION:
        yield (
            f"the pictures are brought to {resolution} x {resolution} pixels, and {model.family.name} was"
            f" made for {made_for} x {made_for}: set resolution at Load Dataset"
        )
    asked_for_text = lora.train_text_encoder and lora.text_encoders.strip() == AUTO
    if asked_for_text and UNET in model.parts and not text_encoders(model.parts):
        yield (
            f"the text encoder stays as it is, as is usual for {model.family.name}: to train it, name it at"
            " text_encoders of LoRA Config"
        )


def _words(name: str) -> str:
    """The name of a file with spaces between what people join."""
    return re.sub(r"[_.]", " ", name)
