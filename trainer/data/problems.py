"""What a data set holds, and what a person may have meant otherwise."""

from collections import Counter
from collections.abc import Iterable

from .buckets import share_cut_off
from .dataset import Dataset
from .folder import few

CROPPED = 0.2  # share of a picture that may be cut off without a word


def report_of(dataset: Dataset) -> str:
    """What was found, for a person: one fact a line."""
    return "\n".join((*_contents(dataset), *problems_of(dataset)))


def problems_of(dataset: Dataset) -> list[str]:
    """What a person may have meant otherwise, one line each."""
    return list(_problems(dataset))


def _contents(dataset: Dataset) -> Iterable[str]:
    pictures = dataset.pictures
    yield f"{dataset.name}: {len(pictures)} pictures, {dataset.pictures_per_epoch} an epoch with repeats"
    for (width, height), count in sorted(Counter(map(dataset.bucket_of, pictures)).items()):
        yield f"  {count} at {width} x {height}"
    if dataset.heldout:
        yield f"held out: {len(dataset.heldout)} pictures, measured and not trained on"


def _problems(dataset: Dataset) -> Iterable[str]:
    everything = (*dataset.pictures, *dataset.heldout)
    enlarged = [p for p in dataset.pictures if p.size[0] * p.size[1] < 0.8 * dataset.config.resolution**2]
    if enlarged:
        yield (
            f"small: {len(enlarged)} pictures have fewer pixels than the resolution asks for and are enlarged"
        )
    cropped = [p.path.name for p in everything if share_cut_off(p.size, dataset.bucket_of(p)) > CROPPED]
    if cropped:
        yield (
            f"cut off by more than {CROPPED:.0%} to fit a size that is trained (at most 2:1): {len(cropped)}:"
            f" {few(cropped)}"
        )
    uncaptioned = [p.path.name for p in everything if not p.captioned]
    if uncaptioned:
        instead = (
            f"'{dataset.config.trigger_word}' alone" if dataset.config.trigger_word.strip() else "no words"
        )
        yield f"without a caption: {len(uncaptioned)}, trained with {instead}: {few(uncaptioned)}"
    if dataset.broken:
        yield f"broken and skipped: {len(dataset.broken)}: {few(dataset.broken)}"
    yield from dataset.left_out.lines()
