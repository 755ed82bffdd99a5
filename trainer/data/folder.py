"""Which files of a folder are pictures to train on, and how often each is shown.

FOLDER/
├── sunflower.png   sunflower.txt   shown once per epoch, with the caption of the text file beside it
├── 4_fluent3d/     taxi.png, ...   pictures of a folder `N_name` are shown N times per epoch, N from 1 to 999
└── other/                          a folder of another name is left out, and the report says so
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError
from .pictures import OTHER_SUFFIXES, SUFFIXES

NOT_READ = OTHER_SUFFIXES | {".caption"}
_REPEATS = re.compile(r"(\d{1,3})_")  # more digits are a year or a date


@dataclass(frozen=True)
class LeftOut:
    """What lies in a folder and is not trained on."""

    folders: tuple[str, ...]  # subfolders that are not `N_name`, by their path below the folder
    files: tuple[str, ...]  # names of pictures and captions of types that are not read

    def without(self, other: Path, folder: Path) -> "LeftOut":
        """Of `folder`, but that `other` is read in another way."""
        return LeftOut(
            tuple(name for name in self.folders if (folder / name).resolve() != other.resolve()), self.files
        )

    def joined(self, other: "LeftOut") -> "LeftOut":
        return LeftOut(self.folders + other.folders, self.files + other.files)

    def lines(self) -> Iterable[str]:
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


def split(files: list[PictureFile], share: float) -> tuple[list[PictureFile], list[PictureFile]]:
    """Holds out a share of the files, at least one, chosen by name alone: adding a picture does not reshuffle
    the others.
    """
    if share == 0:
        return files, []
    if len(files) < 2:
        raise DatasetError(
            "A held-out share needs at least 2 pictures, and the folder has 1. Set the share to 0."
        )
    by_chance = sorted(files, key=lambda file: hashlib.sha256(file.path.name.encode()).digest())
    chosen = set(by_chance[: max(1, round(len(files) * share))])
    return [file for file in files if file not in chosen], [file for file in files if file in chosen]


def few(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
