"""Files and folders that are written whole or not at all, links to folders, and stamps."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import HostError

STAMP_NAME = ".dadapt-lora-stamp"


def fingerprint(*parts: object) -> str:
    """A short hash of anything that JSON can write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def read_stamp(folder: Path) -> str | None:
    try:
        return (folder / STAMP_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write_stamp(folder: Path, value: str) -> None:
    with whole_file(folder / STAMP_NAME) as partial:
        partial.write_text(value, encoding="utf-8")


def remove_stamp(folder: Path) -> None:
    (folder / STAMP_NAME).unlink(missing_ok=True)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Gives a path to write to, which becomes `target` when the block ends without an error.

    After an error it is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which replaces `target` when the block ends without an error."""
    partial = target.with_name(target.name + ".partial")
    old = target.with_name(target.name + ".old")
    for leftover in (partial, old):  # of a run that was killed
        remove_folder(leftover)
    partial.mkdir(parents=True)
    yield partial
    if target.exists():
        target.replace(old)
    partial.replace(target)
    remove_folder(old)


def remove_folder(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def link_folder(link: Path, target: Path) -> None:
    """Makes `link` lead to the folder `target`, in place of another link.

    Raises HostError where there is a file or a folder instead of a link.
    """
    if is_link(link):
        if link.exists() and link.resolve() == target.resolve():
            return
        remove_link(link)
    elif link.exists():
        raise HostError(
            f"Expected a link to {target} at {link}, found a file or folder. Move it away and try again."
        )
    link.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        import _winapi  # a symlink needs special rights on Windows, a junction none

        _winapi.CreateJunction(str(target), str(link))
    else:
        link.symlink_to(target, target_is_directory=True)


def is_link(path: Path) -> bool:
    """True for a symlink and for a Windows junction, also where it leads nowhere."""
    if path.is_symlink():
        return True
    try:
        return bool(getattr(path.lstat(), "st_reparse_tag", 0))  # Path.is_junction() came with Python 3.12
    except OSError:
        return False


def remove_link(link: Path) -> None:
    """Removes the link itself; what it leads to is never entered."""
    if link.is_symlink():
        link.unlink()
    else:
        os.rmdir(link)  # noqa: PTH106  a junction goes like an empty folder
