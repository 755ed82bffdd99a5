"""A folder of pictures with captions: what is in it, how often each picture is shown, what is wrong with it.

FOLDER/
├── sunflower.png      sunflower.txt     shown once an epoch, with the caption of the text file beside it
├── 4_fluent3d/        taxi.png, ...     pictures of a folder `N_name` are shown N times an epoch
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

from .buckets import bucket_for
from .errors import DatasetError
from .pictures import SUFFIXES, read_thumbnail
from .recipe import DatasetConfig

THUMBNAIL_SIDE = 128  # pixels
_REPEATS = re.compile(r"(\d+)_")
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
    ignored_folders: tuple[str, ...]  # names of subfolders that are not `N_name`

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
        return "\n".join(_report_lines(self))


def read_dataset(folder: Path, config: DatasetConfig, heldout_folder: Path | None = None, name: str = "") -> Dataset:
    """Reads a folder of pictures, every file decoded once. Raises `DatasetError` for one that cannot be trained on.

    The held-out pictures are those of `heldout_folder`, or else the configured share of `folder`'s. `name` is what a person calls it.
    """
    name = name or folder.name
    if heldout_folder is not None and config.heldout_share > 0:
        raise DatasetError("Both a held-out folder and a held-out share are set. Keep one: share 0, or folder 'none'.")
    files, ignored = list_pictures(folder)
    if not files:
        subfolders = f" Its subfolders are not read ({', '.join(ignored)}): rename them as '1_name', or choose one." if ignored else ""
        raise DatasetError(f"The folder '{name}' has no pictures ({', '.join(sorted(SUFFIXES))}).{subfolders}")
    if heldout_folder is not None:
        heldout_files = list_pictures(heldout_folder)[0]
        if not heldout_files:
            raise DatasetError(f"The held-out folder '{heldout_folder.name}' has no pictures. Choose another, or 'none'.")
        kept_out = {file.path.resolve() for file in heldout_files}
        files = [file for file in files if file.path.resolve() not in kept_out]
        if not files:
            raise DatasetError(f"All pictures of '{name}' are in the held-out folder too, so none is left to train on. Choose another.")
    else:
        files, heldout_files = _split(files, config.heldout_share)

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
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
    return Dataset(name, config, pictures, heldout, broken, tuple(ignored))


@dataclass(frozen=True)
class PictureFile:
    """A picture file that has not been read yet."""

    path: Path
    repeats: int

    @property
    def caption_file(self) -> Path:
        return self.path.with_suffix(".txt")


def list_pictures(folder: Path) -> tuple[list[PictureFile], list[str]]:
    """The picture files of a folder and of its `N_name` subfolders, by name, and the names of the other subfolders."""
    files = _pictures_in(folder, _repeats(folder.name) or 1)
    ignored = []
    for child in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        repeats = _repeats(child.name)
        if repeats is None:
            ignored.append(child.name)
        else:
            files += _pictures_in(child, repeats)
    return files, ignored


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


def _pictures_in(folder: Path, repeats: int) -> list[PictureFile]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return [PictureFile(path, repeats) for path in paths if repeats > 0 and not path.name.startswith(".")]


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


def _report_lines(dataset: Dataset) -> Iterable[str]:
    pictures = dataset.pictures
    yield f"{dataset.name}: {len(pictures)} pictures, {dataset.pictures_per_epoch} an epoch with repeats"
    for (width, height), count in sorted(Counter(map(dataset.bucket_of, pictures)).items()):
        yield f"  {count} at {width} x {height}"
    if dataset.heldout:
        yield f"held out: {len(dataset.heldout)} pictures, measured and not trained on"
    enlarged = [p for p in pictures if p.size[0] * p.size[1] < 0.8 * dataset.config.resolution**2]
    if enlarged:
        yield f"small: {len(enlarged)} pictures have fewer pixels than the resolution asks for and are enlarged"
    uncaptioned = [p.path.name for p in (*pictures, *dataset.heldout) if not p.captioned]
    if uncaptioned:
        instead = f"'{dataset.config.trigger_word}' alone" if dataset.config.trigger_word.strip() else "no words"
        yield f"without a caption: {len(uncaptioned)}, trained with {instead}: {_few(uncaptioned)}"
    if dataset.broken:
        yield f"broken and skipped: {len(dataset.broken)}: {_few(dataset.broken)}"
    if dataset.ignored_folders:
        yield f"subfolders not read (rename as '1_name' to include): {_few(dataset.ignored_folders)}"


def _few(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
