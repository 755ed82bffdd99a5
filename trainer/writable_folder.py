"""Folders below ComfyUI's output folder that the pack writes to: one that cannot be used is told in words."""

import os
from pathlib import Path

from .errors import SettingError


def check_folders(output: Path, folder: Path) -> None:
    """Checks that the output folder and each folder from there down to `folder` is a folder or not there yet.

    Makes nothing. Raises `SettingError` that names the first that is a file, or a link to a place that is not
    there.
    """
    below = folder.relative_to(output)
    for step in (*reversed(below.parents), below):
        place = output / step
        if os.path.lexists(place) and not _is_folder(place):
            raise SettingError(_problem_of(place, "/".join(("output", *step.parts))))


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError:  # a link to a place that is not ours to read
        return False


def _problem_of(place: Path, name: str) -> str:
    if place.is_symlink() or not place.is_file():  # the second: a junction on Windows
        return (
            f"ComfyUI's {name} is a link to a place that is not there, such as a drive that is not connected."
            " Connect it and allow ComfyUI to use it, or delete the link."
        )
    return f"ComfyUI's {name} is a file, and a folder is expected there. Move it away or choose another name."
