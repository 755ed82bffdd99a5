"""Where a LoRA file is written: below output/loras and nowhere else."""

import os
import stat
import sys
from pathlib import Path

from ..errors import SettingError, shown
from ..writable_folder import check_folders
from .file_name import ENDING, checked_name

LORA_SUBFOLDER = "loras"  # below the output folder; ComfyUI's Load LoRA lists it
# Of a whole path. Less than what the system takes, because a temporary file in that folder may have a longer
# name.
LONGEST_PATH = {"win32": 235, "darwin": 1000}.get(sys.platform, 4000)


def place_for(output: Path, filename: str, overwrite: bool) -> Path:
    """The path of a LoRA file of this name. A number is added to a name that is taken, unless `overwrite`.

    Makes nothing, neither file nor folder. Raises `SettingError` for a name that cannot be used, and for one
    that leads out of output/loras, also by links.
    """
    folder = output / LORA_SUBFOLDER
    name = checked_name(filename)
    path = folder / f"{name}{ENDING}"
    check_folders(output, path.parent)
    _check_it_can_be_written(folder, path, filename, overwrite)
    if overwrite:
        return path
    number = 2
    while os.path.lexists(path):
        path = folder / f"{name}_{number}{ENDING}"
        number += 1
    return path


def _check_it_can_be_written(folder: Path, path: Path, filename: str, overwrite: bool) -> None:
    problem = _problem_of(folder, path, overwrite)
    if problem:
        raise SettingError(f"filename: {shown(filename)} cannot be used: {problem}.")


def _problem_of(folder: Path, path: Path, overwrite: bool) -> str | None:
    """Why the disk does not take a path whose name is fine, as the end of a sentence."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        return "it is, or goes through, a link that leads out of ComfyUI's output/loras"
    if len(os.fsencode(path)) > LONGEST_PATH:
        return (
            "with the folders that ComfyUI lies in, it is longer than this system takes. Choose a shorter one"
        )
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:  # such as a disk that takes shorter names than others
        return f"{error.strerror}. Choose another one, or allow ComfyUI to read there"
    if overwrite and stat.S_ISDIR(mode):
        return "there is a folder of that name. Choose another one"
    return None
