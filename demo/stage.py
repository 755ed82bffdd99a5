"""Puts the demo's model and pictures where a ComfyUI server with that base directory finds them."""

import os
import shutil
from pathlib import Path

from devhost.files import fingerprint, read_stamp, whole_folder, write_stamp
from devhost.layout import local_folder

from . import checkpoint

DATASET = Path(__file__).with_name("dataset")
INPUT_FOLDER = "dadapt_demo"  # below input/, as the example workflows name it


def stage_checkpoint(base: Path) -> Path:
    """Makes models/checkpoints/emoji-sd15.safetensors below `base`.

    All base directories have hard links to one file, where the disk allows that.
    """
    expanded = local_folder() / "demo" / checkpoint.NAME
    checkpoint.expand(expanded)
    target = base / "models" / "checkpoints" / checkpoint.NAME
    if checkpoint.read_metadata(target) != checkpoint.read_metadata(expanded):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        _link_or_copy(expanded, target)
    return target


def stage_dataset(base: Path) -> Path:
    """Copies the pictures and captions to input/dadapt_demo below `base`, unless these are there already."""
    target = base / "input" / INPUT_FOLDER
    wanted = fingerprint(
        [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in _files(DATASET)]
    )
    if read_stamp(target) != wanted:
        with whole_folder(target) as partial:
            shutil.copytree(DATASET, partial, dirs_exist_ok=True)
            write_stamp(partial, wanted)
    return target


def heldout_pictures() -> dict[str, Path]:
    """The pictures of the held-out folder by their captions."""
    captions = _files(DATASET / "heldout", ".txt")
    return {file.read_text(encoding="utf-8").strip(): file.with_suffix(".png") for file in captions}


def _files(folder: Path, suffix: str = "") -> list[Path]:
    return sorted(file for file in folder.rglob(f"*{suffix}") if file.is_file())


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copyfile(source, target)
