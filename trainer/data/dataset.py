"""A data set: the pictures of a folder with their captions, read, and how often each is shown."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..errors import DatasetError
from ..settings.dataset import DatasetConfig
from .buckets import bucket_for
from .captions import with_trigger
from .folder import LeftOut, PictureFile, list_pictures, split
from .pictures import SUFFIXES, read_thumbnail

THUMBNAIL_SIDE = 128  # pixels
DECODERS = 4  # at once: a picture of 50 megapixels takes several hundred MB while it is decoded
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)  # what Pillow raises for a broken file


@dataclass(frozen=True)
class Picture:
    """One picture file that can be trained on."""

    path: Path
    caption: str  # with the trigger word
    captioned: bool  # has a text file of its own
    repeats: int  # how often it is shown an epoch
    size: tuple[int, int]  # width, height in pixels, upright
    thumbnail: Image.Image = field(repr=False, compare=False)


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
    folder: Path, config: DatasetConfig, heldout_folder: Path | None = None, name: str = ""
) -> Dataset:
    """Reads a folder of pictures, every file decoded once. Raises `DatasetError` for one that cannot be
    trained on.

    The held-out pictures are those of `heldout_folder`, or else the configured share of `folder`'s. `name` is
    what a person calls it.
    """
    name = name or folder.name
    if heldout_folder is not None and config.heldout_share > 0:
        raise DatasetError(
            "Both a held-out folder and a held-out share are set. Keep one: share 0, or folder 'none'."
        )
    files, left_out = list_pictures(folder)
    if not files:
        raise DatasetError(
            " ".join(
                (f"The folder '{name}' has no pictures ({', '.join(sorted(SUFFIXES))}).", *left_out.lines())
            )
        )
    if heldout_folder is not None:
        heldout_files, left_out_there = list_pictures(heldout_folder)
        left_out = left_out.without(heldout_folder, folder).joined(left_out_there)
        if not heldout_files:
            raise DatasetError(
                f"The held-out folder '{heldout_folder.name}' has no pictures. Choose another, or 'none'."
            )
        kept_out = {file.path.resolve() for file in heldout_files}
        files = [file for file in files if file.path.resolve() not in kept_out]
        if not files:
            raise DatasetError(
                f"All pictures of '{name}' are in the held-out folder too, so none is left to train on."
                " Choose another."
            )
    else:
        files, heldout_files = split(files, config.heldout_share)

    with ThreadPoolExecutor(DECODERS) as pool:  # decoding releases the interpreter lock
        read = list(pool.map(lambda file: _read(file, config.trigger_word), files + heldout_files))
    broken = tuple(result for result in read if isinstance(result, str))
    pictures = tuple(result for result in read[: len(files)] if isinstance(result, Picture))
    heldout = tuple(result for result in read[len(files) :] if isinstance(result, Picture))
    if broken and config.broken_pictures == "stop":
        raise DatasetError(
            f"{len(broken)} of {len(read)} pictures in '{name}' cannot be read. Replace or remove them, or"
            " set 'broken_pictures' to 'skip' at Load Dataset:\n" + "\n".join(broken)
        )
    if not pictures:
        raise DatasetError(
            f"None of the {len(files)} pictures in '{name}' can be read. Replace them:\n" + "\n".join(broken)
        )
    return Dataset(name, config, pictures, heldout, broken, left_out)


def _read(file: PictureFile, trigger_word: str) -> Picture | str:
    """The picture, or "name: reason" when it cannot be read."""
    try:
        thumbnail, size = read_thumbnail(file.path, THUMBNAIL_SIDE)
    except _UNREADABLE as error:
        return f"{file.path.name}: {error}"
    captioned = file.caption_file.is_file()
    try:
        caption = " ".join(file.caption_file.read_text(encoding="utf-8-sig").split()) if captioned else ""
    except UnicodeDecodeError as error:
        return f"{file.caption_file.name}: not UTF-8 text ({error.reason}); save it as UTF-8"
    return Picture(file.path, with_trigger(trigger_word, caption), captioned, file.repeats, size, thumbnail)
