"""The report of a data set: what it contains, and what a person may have meant otherwise."""

from collections import Counter
from collections.abc import Iterable

from .buckets import share_cropped
from .dataset import Dataset
from .folder import few

CROPPED = 0.2  # share of a picture that is cropped without a word in the report
SMALL = 0.8  # share of the resolution's pixels below which a picture is called small


def report_of(dataset: Dataset) -> str:
    """What was found, for a person: one fact per line."""
    return "\n".join((*_contents(dataset), *problems_of(dataset)))


def problems_of(dataset: Dataset) -> list[str]:
    """What a person may have meant otherwise, one line each."""
    return [
        *_size_problems(dataset),
        *_caption_problems(dataset),
        *_broken_files(dataset),
        *dataset.left_out.lines(),
    ]


def _contents(dataset: Dataset) -> Iterable[str]:
    pictures = dataset.pictures
    yield f"{dataset.name}: {len(pictures)} pictures, {dataset.pictures_per_epoch} per epoch with repeats"
    for (width, height), count in sorted(Counter(map(dataset.bucket_of, pictures)).items()):
        yield f"  {count} at {width} x {height}"
    if dataset.heldout:
        yield f"held out: {len(dataset.heldout)} pictures, measured and not trained on"


def _size_problems(dataset: Dataset) -> Iterable[str]:
    wanted = dataset.config.resolution**2  # pixels
    small = [p for p in dataset.pictures if p.size[0] * p.size[1] < SMALL * wanted]
    if small:
        yield f"small: {len(small)} pictures have fewer pixels than the resolution asks for and are enlarged"
    cropped = [
        p.name
        for p in (*dataset.pictures, *dataset.heldout)
        if share_cropped(p.size, dataset.bucket_of(p)) > CROPPED
    ]
    if cropped:
        yield (
            f"cropped by more than {CROPPED:.0%} to fit a size that is trained (at most 2:1): {len(cropped)}:"
            f" {few(cropped)}"
        )


def _caption_problems(dataset: Dataset) -> Iterable[str]:
    uncaptioned = [p.name for p in (*dataset.pictures, *dataset.heldout) if not p.captioned]
    if uncaptioned:
        trigger_word = dataset.config.trigger_word.strip()
        instead = f"'{trigger_word}' alone" if trigger_word else "no words"
        yield f"without a caption: {len(uncaptioned)}, trained with {instead}: {few(uncaptioned)}"


def _broken_files(dataset: Dataset) -> Iterable[str]:
    if dataset.broken:
        yield f"broken and skipped: {len(dataset.broken)}: {few(dataset.broken)}"
