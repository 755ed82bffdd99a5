"""The folders of pictures that can be chosen, listed anew only where something has changed.

ComfyUI asks for the list several times per queue and per page, partly where its web server waits for the
answer.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError, shown
from .folder import has_pictures

DEPTH = 3  # levels of folders below a root that are offered
TRUSTED = 5.0  # seconds for which a folder that seems unchanged is not listed again: some disks do not tell
SETTLED = 2.0  # seconds within which a second change may leave a folder's modification time the same
SLOW = 0.05  # seconds; where looking for changes takes longer, as on a network share ...
PAUSE = 2.0  # ... it is not done again for so many seconds


@dataclass(frozen=True)
class _Listing:
    """What was found in one folder, and when."""

    at: float  # seconds since 1970
    modified: tuple[float, ...]  # of the folder and of its subfolders
    subfolders: tuple[Path, ...]
    has_pictures: bool

    def is_current(self, folder: Path, now: float) -> bool:
        """Whether nothing can have changed: that costs a look at each folder, and none into it."""
        is_settled = max(self.modified) + SETTLED < self.at
        is_young = 0 <= now - self.at < TRUSTED
        return is_settled and is_young and self.modified == _modified(folder, *self.subfolders)


class FolderList:
    """The picture folders below some roots, by their path below their root, with '/' between names.

    Of two folders with one name the first root's counts. Can be asked by several threads.
    """

    def __init__(
        self, roots: Callable[[], list[Path]], where: str, clock: Callable[[], float] = time.time
    ) -> None:
        """`where` ends the sentence that says where a folder is expected."""
        self._roots, self._where, self._clock = roots, where, clock
        self._listings: dict[Path, _Listing] = {}
        self._names: list[str] = []
        self._pause_until = 0.0
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The folders with pictures, or with `N_name` folders of pictures, in order.

        May be some seconds old on a disk that is slow or does not tell of changes; `find` always looks.
        """
        with self._lock:
            started = self._clock()
            if started >= self._pause_until or started < self._pause_until - PAUSE:
                self._names = sorted(self._folders_with_pictures(started))
                ended = self._clock()
                self._pause_until = ended + PAUSE if ended - started > SLOW else ended
            return list(self._names)

    def find(self, name: str) -> Path:
        """The folder of that name. Raises `DatasetError` for one that is not there or lies elsewhere."""
        for root in self._roots() if isinstance(name, str) else []:
            folder = Path(os.path.normpath(root / name))  # ".." is not followed; links, the owner's own, are
            if folder.is_relative_to(root) and folder != root and _is_folder(folder):
                return folder
        names = self.names()
        known = f"There are: {', '.join(names[:20])}." if names else "There are none yet."
        raise DatasetError(f"There is no picture folder {shown(name)}. Expected {self._where}. {known}")

    def _folders_with_pictures(self, now: float) -> list[str]:
        """Their names, in no order. Forgets the listings of folders that are gone."""
        known, self._listings = self._listings, {}
        found: dict[str, bool] = {}
        for root in self._roots():
            level = [root]
            for _ in range(DEPTH):
                level = [child for folder in level for child in self._listing(folder, known, now).subfolders]
                for folder in level:
                    offered = self._listing(folder, known, now).has_pictures
                    found.setdefault(folder.relative_to(root).as_posix(), offered)
        return [name for name, offered in found.items() if offered]

    def _listing(self, folder: Path, known: dict[Path, _Listing], now: float) -> _Listing:
        """The listing that is known, where it is current, or a new one."""
        if folder not in self._listings:
            old = known.get(folder)
            self._listings[folder] = old if old and old.is_current(folder, now) else _list(folder, now)
        return self._listings[folder]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no disk can have, or a place that is not ours to read
        return False


def _list(folder: Path, now: float) -> _Listing:
    """Lists a folder. Times are read first, so that a change in between is seen the next time."""
    own = _modified(folder)
    try:
        with os.scandir(folder) as entries:
            paths = [Path(entry.path) for entry in entries if entry.name[0] != "." and entry.is_dir()]
    except OSError:  # not there, or not ours to read: nothing in it can be chosen
        paths = []
    return _Listing(now, own + _modified(*paths), tuple(paths), _has_pictures(folder))


def _modified(*folders: Path) -> tuple[float, ...]:
    """When each was changed, in seconds since 1970; 0 for one that is not there."""
    return tuple(map(_modified_at, folders))


def _modified_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _has_pictures(folder: Path) -> bool:
    try:
        return has_pictures(folder)
    except OSError:  # holds a folder that is not ours to read, as lost+found
        return False
