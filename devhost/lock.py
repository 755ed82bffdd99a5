"""One setup at a time, across processes."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .console import say


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Waits until no other process is inside `exclusive(folder)`.

    The lock is an SQLite transaction. The operating system ends it with the process, however that died, so
    that no stale lock is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "lock.sqlite", timeout=0, isolation_level=None)) as database:
        if not _begin(database):
            say(f"Another process is setting up {folder}; waiting for it.")
            while not _begin(database):
                time.sleep(0.2)  # not SQLite's own waiting, which Ctrl-C does not interrupt
        yield


def _begin(database: sqlite3.Connection) -> bool:
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
    return True
