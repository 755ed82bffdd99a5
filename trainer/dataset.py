"""A folder of pictures with captions: what is in it, how often each picture is shown, what is wrong with it.

FOLDER/
├── sunflower.png      sunflower.txt     shown once an epoch, with the caption of the text file beside it
├── 4_fluent3d/        taxi.png, ...     pictures of a folder `N_name` are shown N times an epoch, N from 1 to 999
└── other/                               a folder of another name is left out, and the report says so
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from .buckets import bucket_for, share_cut_off
from .errors import DatasetError
from .pictures import OTHER_SUFFIXES, SUFFIXES, read_thumbnail
from .settings.dataset import DatasetConfig

THUMBNAIL_SIDE = 128  # pixels
DECODERS = 4  # at once: a picture of 50 megapixels takes several hundred MB while it is decoded
NOT_READ = OTHER_SUFFIXES | {".caption"}
CROPPED = 0.2  # share of a picture that may be cut off without a word
_REPEATS = re.compile(r"(\d{1,3})_")  # more digits are a year or a date
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises for a broken file


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
    left_out: "LeftOut"

    @property
    def pictures_per_epoch(self) -> int:
        """How many pictures one epoch shows, with repeats."""
        return sum(picture.repeats for picture in self.pictures)

    def bucket_of(self, picture: Picture) -> tuple[int, int]:
        """Width and height in pixels at which `picture` is trained."""
        return bucket_for(*picture.size, self.config.resolution)

    @property
    def report(self) -> str:
        """What was found, for a person: one fact a line."""
        return "\n".join((*_contents(self), *self.problems))

    @property
    def problems(self) -> list[str]:
        """What a person may have meant otherwise, one line each."""
        return list(_problems(self))


def read_dataset(folder: Path, config: DatasetConfig, heldout_folder: Path | None = None, name: str = "") -> Dataset:
    """Reads a folder of pictures, every file decoded once. Raises `DatasetError` for one that cannot be trained on.

    The held-out pictures are those of `heldout_folder`, or else the configured share of `folder`'s. `name` is what a person calls it.
    """
    name = name or folder.name
    if heldout_folder is not None and config.heldout_share > 0:
        raise DatasetError("Both a held-out folder and a held-out share are set. Keep one: share 0, or folder 'none'.")
    files, left_out = list_pictures(folder)
    if not files:
        raise DatasetError(" ".join((f"The folder '{name}' has no pictures ({', '.join(sorted(SUFFIXES))}).", *left_out.lines())))
    if heldout_folder is not None:
        heldout_files, left_out_there = list_pictures(heldout_folder)
        left_out = left_out.without(heldout_folder, folder).joined(left_out_there)
        if not heldout_files:
            raise DatasetError(f"The held-out folder '{heldout_folder.name}' has no pictures. Choose another, or 'none'.")
        kept_out = {file.path.resolve() for file in heldout_files}
        files = [file for file in files if file.path.resolve() not in kept_out]
        if not files:
            raise DatasetError(f"All pictures of '{name}' are in the held-out folder too, so none is left to train on. Choose another.")
    else:
        files, heldout_files = _split(files, config.heldout_share)

    with ThreadPoolExecutor(DECODERS) as pool:  # decoding releases the interpreter lock
        read = list(pool.map(lambda file: _read(file, config.trigger_word), files + heldout_files))
    broken = tuple(result for result in read if isinstance(result, str))
    pictures = tuple(result for result in read[: len(files)] if isinstance(result, Picture))
    heldout = tuple(result for result in read[len(files) :] if isinstance(result, Picture))
    if broken and config.broken_pictures == "stop":
        raise DatasetError(
            f"{len(broken)} of {len(read)} pictures in '{name}' cannot be read. Replace or remove them, or set 'broken_pictures' to "
            "'skip' at Load Dataset:\n" + "\n".join(broken)
        )
    if not pictures:
        raise DatasetError(f"None of the {len(files)} pictures in '{name}' can be read. Replace them:\n" + "\n".join(broken))
    return Dataset(name, config, pictures, heldout, broken, left_out)


@dataclass(frozen=True)
class LeftOut:
    """What lies in a folder and is not trained on."""

    folders: tuple[str, ...]  # subfolders that are not `N_name`, by their path below the folder
    files: tuple[str, ...]  # names of pictures and captions of types that are not read

    def without(self, other: Path, folder: Path) -> "LeftOut":
        """Of `folder`, but that `other` is read in another way."""
        return LeftOut(tuple(name for name in self.folders if (folder / name).resolve() != other.resolve()), self.files)

    def joined(self, other: "LeftOut") -> "LeftOut":
        return LeftOut(self.folders + other.folders, self.files + other.files)

    def lines(self) -> Iterable[str]:
        if self.folders:
            yield f"subfolders not read: {_few(self.folders)} (rename as '1_name', directly below the folder, to include)"
        if self.files:
            yield f"files of types that are not read: {len(self.files)}: {_few(self.files)} (save pictures as PNG or JPEG, captions as txt)"


@dataclass(frozen=True)
class PictureFile:
    """A picture file that has not been read yet."""

    path: Path
    repeats: int

    @property
    def caption_file(self) -> Path:
        return self.path.with_suffix(".txt")


def list_pictures(folder: Path) -> tuple[list[PictureFile], LeftOut]:
    """The picture files of a folder and of its `N_name` subfolders, by name, and what else is there."""
    read, not_read = [(folder, _repeats(folder.name) or 1)], []
    for child in _folders_in(folder):
        repeats = _repeats(child.name)
        if repeats:
            read.append((child, repeats))
            not_read += _folders_in(child)
        else:
            not_read.append(child)
    files = [file for place, repeats in read for file in _pictures_in(place, repeats)]
    others = [path.name for place, _ in read for path in _files_in(place) if path.suffix.lower() in NOT_READ]
    return files, LeftOut(tuple(path.relative_to(folder).as_posix() for path in not_read), tuple(others))


def has_pictures(folder: Path) -> bool:
    """Whether `list_pictures` would find one. Stops at the first."""
    places = [folder, *(child for child in folder.iterdir() if _repeats(child.name) and child.is_dir())]
    return any(_is_picture(path) and path.is_file() for place in places for path in place.iterdir())


def fingerprint(folder: Path, config: DatasetConfig, heldout_folder: Path | None = None) -> str:
    """A digest of every picture, caption and setting: it changes if and only if what is trained changes."""
    digest = hashlib.sha256(repr(config).encode())
    for root in filter(None, (folder, heldout_folder)):
        for file in list_pictures(root)[0]:
            digest.update(f"{file.path.relative_to(root).as_posix()}|{file.repeats}|".encode())
            digest.update(content_digest(file.path))
            digest.update(content_digest(file.caption_file) if file.caption_file.is_file() else b"no caption")
    return digest.hexdigest()


def with_trigger(trigger_word: str, caption: str) -> str:
    """'trigger, caption', or whichever there is; a caption that holds the trigger word already stays as it is."""
    trigger_word, caption = trigger_word.strip(), caption.strip()
    if not trigger_word or re.search(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", caption):
        return caption
    return f"{trigger_word}, {caption}" if caption else trigger_word


def _repeats(folder_name: str) -> int | None:
    match = _REPEATS.match(folder_name)
    return int(match[1]) if match else None


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _pictures_in(folder: Path, repeats: int) -> list[PictureFile]:
    return [PictureFile(path, repeats) for path in _files_in(folder) if _is_picture(path)]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _split(files: list[PictureFile], share: float) -> tuple[list[PictureFile], list[PictureFile]]:
    """Holds out a share of the files, at least one, chosen by name alone: adding a picture does not reshuffle the others."""
    if share == 0:
        return files, []
    if len(files) < 2:
        raise DatasetError("A held-out share needs at least 2 pictures, and the folder has 1. Set the share to 0.")
    by_chance = sorted(files, key=lambda file: hashlib.sha256(file.path.name.encode()).digest())
    chosen = set(by_chance[: max(1, round(len(files) * share))])
    return [file for file in files if file not in chosen], [file for file in files if file in chosen]


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


_digests: dict[Path, tuple[int, int, bytes]] = {}  # size, time and digest by path, so that a queue does not read all files again


def content_digest(path: Path) -> bytes:
    """SHA-256 of a file; read again only when its size or time has changed."""
    stat = path.stat()
    size, time, digest = _digests.get(path, (-1, -1, b""))
    if (size, time) != (stat.st_size, stat.st_mtime_ns):
        digest = hashlib.sha256(path.read_bytes()).digest()
        _digests[path] = (stat.st_size, stat.st_mtime_ns, digest)
    return digest


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
        yield f"small: {len(enlarged)} pictures have fewer pixels than the resolution asks for and are enlarged"
    cropped = [p.path.name for p in everything if share_cut_off(p.size, dataset.bucket_of(p)) > CROPPED]
    if cropped:
        yield f"cut off by more than {CROPPED:.0%} to fit a size that is trained (at most 2:1): {len(cropped)}: {_few(cropped)}"
    uncaptioned = [p.path.name for p in everything if not p.captioned]
    if uncaptioned:
        instead = f"'{dataset.config.trigger_word}' alone" if dataset.config.trigger_word.strip() else "no words"
        yield f"without a caption: {len(uncaptioned)}, trained with {instead}: {_few(uncaptioned)}"
    if dataset.broken:
        yield f"broken and skipped: {len(dataset.broken)}: {_few(dataset.broken)}"
    yield from dataset.left_out.lines()


def _few(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
