"""What Save LoRA has written since ComfyUI was started, and whether it is still there."""

from dataclasses import dataclass
from pathlib import Path

from .file import hash_of_weights_in

Settings = tuple  # a node's own inputs in a fixed order; None for one that comes from a link and is not known


@dataclass
class _Saved:
    """One file as it was when it was written."""

    settings: Settings
    weights: str  # hash
    size: int  # bytes
    modified: int  # nanoseconds
    is_lost: bool = False

    def is_intact(self, path: Path) -> bool:
        """Whether the file holds the same weights. One with another date is read; its metadata may differ."""
        try:
            stat = path.stat()
            if (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified):
                return True
            return hash_of_weights_in(path) == self.weights
        except OSError:
            return False


class SavedFiles:
    """Answers two questions about earlier saves: is one of them gone or changed since, and is this LoRA saved
    already?
    """

    def __init__(self) -> None:
        self._saved: dict[Path, _Saved] = {}
        self._lost: list[Settings] = []

    def remember(self, path: Path, settings: Settings, weights: str) -> None:
        """A file was written. What was known of an older one in its place is forgotten."""
        stat = path.stat()
        self._saved[path] = _Saved(settings, weights, stat.st_size, stat.st_mtime_ns)

    def times_lost(self, settings: Settings) -> int:
        """How often a file that was saved with these settings was found to be gone or changed.

        It is the same number as long as the files stay what they were, and saving does not change it: a
        fingerprint.
        """
        for path, saved in self._saved.items():
            is_lost = not saved.is_intact(path)
            if is_lost and not saved.is_lost:
                self._lost.append(saved.settings)
            saved.is_lost = is_lost
        return sum(_match(settings, lost) for lost in self._lost)

    def find(self, settings: Settings, weights: str) -> Path | None:
        """A file that was saved with these settings, holds these weights, and is still there."""
        for path, saved in self._saved.items():
            if (saved.settings, saved.weights) == (settings, weights) and saved.is_intact(path):
                return path
        return None


def _match(asked: Settings, known: Settings) -> bool:
    return all(one is None or one == other for one, other in zip(asked, known, strict=True))
