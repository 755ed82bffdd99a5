"""A data set: the pictures of a folder with their captions, read, and how often each is shown."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from ..errors import DatasetError
from ..settings.dataset import DatasetConfig
from .buckets import bucket_for
from .captions import read_caption, with_trigger
from .folder import LeftOut, PictureFile, find_files, refuse_to_hold_out_twice
from .pictures import read_thumbnail

THUMBNAIL_SIDE = 128  # pixels
MOST_THUMBNAILS = 60  # of a data set, for its contact sheet; 48 KB each
DECODERS = 4  # at once: a picture of 50 megapixels takes several hundred MB while it is decoded
AHEAD = 2 * DECODERS  # files that are being read, or have been, and not been asked for yet

OnPicture = Callable[[int, int], None]  # called with the number of pictures read, and of all


@dataclass(frozen=True)
class Picture:
    """One picture file that can be trained on."""

    path: Path
    name: str  # its path below the data set's folder, as a person is told of it
    caption: str  # with the trigger word
    captioned: bool  # has a text file of its own with words in it
    repeats: int  # how often it is shown per epoch
    size: tuple[int, int]  # width, height in pixels, upright
    # Only of those on the contact sheet: 10,000 would take 0.5 GB.
    thumbnail: Image.Image | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Dataset:
    """The pictures of one folder, and what was found there."""

    name: str
    config: DatasetConfig
    pictures: tuple[Picture, ...]
    heldout: tuple[Picture, ...]  # measured, never trained on
    broken: tuple[str, ...]  # "name: reason" of each file that could not be read
    left_out: LeftOut

    @property
    def pictures_per_epoch(self) -> int:
        """How many pictures one epoch shows, with repeats."""
        return sum(picture.repeats for picture in self.pictures)

    def bucket_of(self, picture: Picture) -> tuple[int, int]:
        """Width and height in pixels at which `picture` is trained."""
        return bucket_for(*picture.size, self.config.resolution)


def read_dataset(
    folder: Path,
    config: DatasetConfig,
    heldout_folder: Path | None = None,
    name: str = "",
    on_picture: OnPicture = lambda done, total: None,
) -> Dataset:
    """Reads a folder of pictures; every file is decoded once. Raises `DatasetError` for a folder that cannot
    be trained on.

    The held-out pictures are those of `heldout_folder`, or else the configured share of `folder`'s. `name` is
    what a person calls the folder. `on_picture` is called with 0 before the first picture and after each;
    what it raises ends the reading, and pictures that have not been begun are not read.
    """
    name = name or folder.name
    refuse_to_hold_out_twice(config, heldout_folder)
    files = find_files(folder, config, heldout_folder, name)
    results = _read_all([*files.training, *files.heldout], config.trigger_word, on_picture)
    pictures, heldout = results[: len(files.training)], results[len(files.training) :]
    broken = tuple(result for result in results if isinstance(result, str))
    if broken and config.broken_pictures == "stop":
        raise DatasetError(
            f"{len(broken)} of {len(results)} pictures in '{name}' cannot be read. Replace or remove them, or"
            " set 'broken_pictures' to 'skip' at Load Dataset:\n" + "\n".join(broken)
        )
    if not _readable(pictures):
        raise DatasetError(
            f"None of the {len(pictures)} pictures in '{name}' can be read. Replace them:\n"
            + "\n".join(broken)
        )
    return Dataset(name, config, _readable(pictures), _readable(heldout), broken, files.left_out)


def _readable(results: Sequence[Picture | str]) -> tuple[Picture, ...]:
    return tuple(result for result in results if isinstance(result, Picture))


def _read_all(files: Sequence[PictureFile], trigger_word: str, on_picture: OnPicture) -> list[Picture | str]:
    """What `_read` gives for each file, with at most `MOST_THUMBNAILS` thumbnails."""
    results: list[Picture | str] = []
    on_picture(0, len(files))
    pool = ThreadPoolExecutor(DECODERS)  # decoding releases the interpreter lock
    try:
        read = _in_order(pool, files, trigger_word)
        for result in _with_few_thumbnails(read, math.ceil(len(files) / MOST_THUMBNAILS)):
            results.append(result)
            on_picture(len(results), len(files))
    finally:
        pool.shutdown(cancel_futures=True)  # waits for those that are being decoded, at most `DECODERS`
    return results


def _in_order(
    pool: ThreadPoolExecutor, files: Sequence[PictureFile], trigger_word: str
) -> Iterator[Picture | str]:
    """Reads the files in `pool`, never more than `AHEAD` of the one that is asked for."""
    begun: deque[Future[Picture | str]] = deque()
    for file in files:
        begun.append(pool.submit(_read, file, trigger_word))
        if len(begun) == AHEAD:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _with_few_thumbnails(results: Iterator[Picture | str], stretch: int) -> Iterator[Picture | str]:
    """Of each `stretch` results in a row the first picture has its thumbnail, so that those that have one are
    spread evenly.
    """
    last = -1  # the stretch that has one
    for place, result in enumerate(results):
        if isinstance(result, Picture):
            if place // stretch == last:
                result = replace(result, thumbnail=None)
            last = place // stretch
        yield result


def _read(file: PictureFile, trigger_word: str) -> Picture | str:
    """The picture, or "name: reason" if it or its caption cannot be read."""
    name = file.name
    try:
        thumbnail, size = read_thumbnail(file.path, THUMBNAIL_SIDE)
        name = file.caption_name
        caption = read_caption(file.caption_file)
    except DatasetError as error:
        return f"{name}: {error}"
    return Picture(
        path=file.path,
        name=file.name,
        caption=with_trigger(trigger_word, caption),
        captioned=bool(caption),
        repeats=file.repeats,
        size=size,
        thumbnail=thumbnail,
    )
