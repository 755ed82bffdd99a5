"""Whether anything of a data set has changed since it was read."""

import hashlib
from pathlib import Path

from ..settings.dataset import DatasetConfig
from .folder import list_pictures


def fingerprint(folder: Path, config: DatasetConfig, heldout_folder: Path | None = None) -> str:
    """A digest of every picture, caption and setting: it changes if and only if what is trained changes."""
    digest = hashlib.sha256(repr(config).encode())
    for root in filter(None, (folder, heldout_folder)):
        for file in list_pictures(root)[0]:
            digest.update(f"{file.path.relative_to(root).as_posix()}|{file.repeats}|".encode())
            digest.update(content_digest(file.path))
            digest.update(content_digest(file.caption_file) if file.caption_file.is_file() else b"no caption")
    return digest.hexdigest()


_digests: dict[
    Path, tuple[int, int, bytes]
] = {}  # size, time and digest by path, so that a queue does not read all files again


def content_digest(path: Path) -> bytes:
    """SHA-256 of a file; read again only when its size or time has changed."""
    stat = path.stat()
    size, time, digest = _digests.get(path, (-1, -1, b""))
    if (size, time) != (stat.st_size, stat.st_mtime_ns):
        digest = hashlib.sha256(path.read_bytes()).digest()
        _digests[path] = (stat.st_size, stat.st_mtime_ns, digest)
    return digest
