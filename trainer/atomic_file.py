"""Files that appear whole under their name or not at all.

A file is written under a temporary name beside its place and then moved there, so that whoever reads it sees
the old file or the new one, also when the disk is full or the machine dies in between.
"""

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

PARTIAL_AGE = 3600  # seconds after which nobody is still writing to a temporary file
# `.dadapt-0123abcd.partial`, and what earlier versions called the temporary files of a run folder
_PARTIAL = re.compile(r"\.(?:dadapt|lora|best|last|step_\d{6})-[a-z0-9_]{8}\.partial")


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file in one step, and makes the folders above it.

    Raises `OSError`, and then an older file of that name is what it was. The temporary name does not depend
    on the file's own, so that every name that the disk takes can be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".dadapt-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file in one step, with line ends as they are.

    Raises `OSError` as `write_bytes` does.
    """
    write_bytes(path, text.encode())


def remove_old_partials(folder: Path) -> None:
    """Deletes the temporary files that a process which was killed has left in a folder and below it.

    Only files with our own names that are older than an hour go; links are not followed.
    """
    for place, _, names in os.walk(folder):
        for name in filter(_PARTIAL.fullmatch, names):
            with contextlib.suppress(OSError):  # one that cannot be deleted must not stop a run
                _remove_if_old(Path(place, name))


def _remove_if_old(file: Path) -> None:
    if time.time() - file.lstat().st_mtime > PARTIAL_AGE:
        file.unlink()
