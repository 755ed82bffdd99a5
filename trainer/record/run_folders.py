"""The folders that runs leave behind: output/loras/dadapt_runs/NAME_0001, one per run.

ComfyUI's Load LoRA lists the LoRAs in them, too.
"""

import contextlib
import os
import re
from itertools import count
from pathlib import Path

from ..adapters.file_name import safe_part
from ..adapters.file_place import LORA_SUBFOLDER
from ..atomic_file import remove_old_partials
from ..errors import SettingError
from ..writable_folder import check_folders

RUNS = f"{LORA_SUBFOLDER}/dadapt_runs"  # below the output folder
_RUN = re.compile(r"(.+)_(\d{4,})")


def make_run_folder(output: Path, dataset: str) -> Path:
    """Makes a new folder for a run on a data set of that name. A long name is shortened.

    What killed runs have left half written is deleted. Raises `SettingError` where the folder cannot be made.
    """
    runs = output / RUNS
    check_folders(output, runs)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        remove_old_partials(runs)
        return _make_numbered(runs, safe_part(dataset))
    except OSError as error:
        raise SettingError(
            f"No folder for this run can be made in output/{RUNS}: {error.strerror}. Allow ComfyUI to write"
            " there or make room, or start ComfyUI with another --output-directory."
        ) from error


def describe_runs(output: Path) -> list[str]:
    """How many runs are on the disk, where, and how large, in one line for the person at the graph.

    No line where there are none, or where the disk does not say.
    """
    runs = output / RUNS
    try:
        folders = [name for name in _names_in(runs) if _RUN.fullmatch(name)]
    except OSError:  # a share that is away: the run itself will say so
        return []
    if not folders:
        return []
    size = _in_words(sum(_bytes_in(runs / name) for name in folders))
    number = "1 earlier run takes" if len(folders) == 1 else f"{len(folders)} earlier runs take"
    return [f"{number} {size} in output/{RUNS}: delete the folders that you no longer need"]


def _make_numbered(runs: Path, stem: str) -> Path:
    """The folder after the highest number, so that no run gets the name of one that was deleted before it."""
    taken = [match for match in map(_RUN.fullmatch, _names_in(runs)) if match and match[1] == stem]
    for number in count(1 + max((int(match[2]) for match in taken), default=0)):
        path = runs / f"{stem}_{number:04}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("numbers do not end")


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _bytes_in(folder: Path) -> int:
    """Links are not followed; a file that vanishes meanwhile counts nothing."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += Path(place, name).lstat().st_size
    return size


def _in_words(size: int) -> str:
    if size < 1e6:
        return "less than 1 MB"
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
