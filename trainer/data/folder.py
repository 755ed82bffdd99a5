"""Which files of a folder are pictures to train on, and how often each is shown.

FOLDER/
├── sunflower.png   sunflower.txt   shown once per epoch, with the caption of the text file beside it
├── 4_fluent3d/     taxi.png, ...   pictures of a folder `N_name` are shown N times per epoch, N from 1 to 999
└── other/                          a folder of another name is left out, and the report says so
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError
from ..settings.dataset import DatasetConfig
from .pictures import OTHER_SUFFIXES, SUFFIXES
from .unreadable import reason_in_words

NOT_READ = OTHER_SUFFIXES | {".caption"}
_REPEATS = re.compile(r"(\d{1,3})_")  # more digits are a year or a date


@dataclass(frozen=True)
class LeftOut:
    """What lies in a folder and is not trained on."""

    folders: tuple[str, ...]  # subfolders that are not `N_name`, by their path below the folder
    files: tuple[str, ...]  # names of pictures and captions of types that are not read

    def without(self, other: Path, folder: Path) -> "LeftOut":
        """The same but for `other`, a subfolder of `folder` that is read in another way."""
        return LeftOut(
            tuple(name for name in self.folders if (folder / name).resolve() != other.resolve()), self.files
        )

    def joined(self, other: "LeftOut") -> "LeftOut":
        return LeftOut(self.folders + other.folders, self.files + other.files)

    def lines(self) -> Iterable[str]:
        """For the report: what is left out, and how it would be read."""
        if self.folders:
            yield (
                f"subfolders not read: {few(self.folders)} (rename as '1_name', directly below the folder, to"
                " include)"
            )
        if self.files:
            yield (
                f"files of types that are not read: {len(self.files)}: {few(self.files)} (save pictures as"
                " PNG or JPEG, captions as txt)"
            )


@dataclass(frozen=True)
class PictureFile:
    """A picture file that has not been read yet."""

    path: Path
    name: str  # its path below the data set's folder, as a person is told of it
    repeats: int

    @property
    def caption_file(self) -> Path:
        return self.path.with_suffix(".txt")

    @property
    def caption_name(self) -> str:
        return self.name.removesuffix(self.path.suffix) + ".txt"


@dataclass(frozen=True)
class DatasetFiles:
    """The picture files of a data set, none of them read yet."""

    training: list[PictureFile]
    heldout: list[PictureFile]
    left_out: LeftOut


def find_files(folder: Path, config: DatasetConfig, heldout_folder: Path | None, name: str) -> DatasetFiles:
    """The files to train on and those held out: the files of `heldout_folder`, or else the configured share.

    `name` is what a person calls `folder`. Raises `DatasetError` if there is nothing to train on.
    """
    files, left_out = list_pictures(folder)
    if not files:
        raise DatasetError(
            " ".join(
                (f"The folder '{name}' has no pictures ({', '.join(sorted(SUFFIXES))}).", *left_out.lines())
            )
        )
    if heldout_folder is None:
        return DatasetFiles(*split(files, config.heldout_share), left_out)
    heldout, left_out_there = list_pictures(heldout_folder)
    if not heldout:
        raise DatasetError(
            f"The held-out folder '{heldout_folder.name}' has no pictures. Choose another, or 'none'."
        )
    training = _without(files, heldout)
    if not training:
        raise DatasetError(
            f"All pictures of '{name}' are in the held-out folder too, so none is left to train on."
            " Choose another."
        )
    return DatasetFiles(training, heldout, left_out.without(heldout_folder, folder).joined(left_out_there))


def refuse_to_hold_out_twice(config: DatasetConfig, heldout_folder: object | None) -> None:
    """Raises `DatasetError` if both a folder and a share of pictures are to be held out."""
    if heldout_folder is not None and config.heldout_share > 0:
        raise DatasetError(
            "Both a held-out folder and a held-out share are set. Keep one: share 0, or folder 'none'."
        )


def list_pictures(folder: Path) -> tuple[list[PictureFile], LeftOut]:
    """The picture files of a folder and of its `N_name` subfolders, by name, and what else is there.

    Raises `DatasetError` if one of these folders cannot be read.
    """
    places, not_read = [(folder, _repeats(folder.name) or 1)], []
    for child in _folders_in(folder):
        repeats = _repeats(child.name)
        if repeats:
            places.append((child, repeats))
            not_read += _folders_in(child)
        else:
            not_read.append(child)
    files, others = [], []
    for place, repeats in places:
        for path in _files_in(place):
            if _is_picture(path):
                files.append(PictureFile(path, _name_below(folder, path), repeats))
            elif path.suffix.lower() in NOT_READ:
                others.append(_printable(path.name))
    return files, LeftOut(tuple(_name_below(folder, path) for path in not_read), tuple(others))


def has_pictures(folder: Path) -> bool:
    """Whether `list_pictures` would find one. Stops at the first. Raises `OSError`."""
    places = [folder, *(child for child in folder.iterdir() if _repeats(child.name) and child.is_dir())]
    return any(_is_picture(path) and path.is_file() for place in places for path in place.iterdir())


def _repeats(folder_name: str) -> int | None:
    match = _REPEATS.match(folder_name)
    return int(match[1]) if match else None


def _folders_in(folder: Path) -> list[Path]:
    with _naming(folder):
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files_in(folder: Path) -> list[Path]:
    with _naming(folder):
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Names the folder that cannot be read."""
    try:
        with reason_in_words():
            yield
    except DatasetError as error:
        raise DatasetError(
            f"The folder '{_printable(folder.name)}' cannot be read: {error}. Allow it, or choose another."
        ) from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _name_below(folder: Path, path: Path) -> str:
    return _printable(path.relative_to(folder).as_posix())


def _printable(name: str) -> str:
    """A name that can be sent to the page: what is not UTF-8 in it is replaced."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def _without(files: list[PictureFile], others: list[PictureFile]) -> list[PictureFile]:
    """The files that are not among `others`, also under another path."""
    kept_out = {file.path.resolve() for file in others}
    return [file for file in files if file.path.resolve() not in kept_out]


def split(files: list[PictureFile], share: float) -> tuple[list[PictureFile], list[PictureFile]]:
    """The files to train on, and a share of them to hold out, at least one.

    They are chosen by name alone: adding a picture does not reshuffle the others.
    """
    if share == 0:
        return files, []
    if len(files) < 2:
        raise DatasetError(
            "A held-out share needs at least 2 pictures, and the folder has 1. Set the share to 0."
        )
    by_chance = sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file.path.name)).digest())
    chosen = set(by_chance[: max(1, round(len(files) * share))])
    return [file for file in files if file not in chosen], [file for file in files if file in chosen]


def few(names: Iterable[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
