"""Whether anything of a data set has changed since it was read."""

import hashlib
from pathlib import Path

from ..errors import DatasetError
from ..settings.dataset import DatasetConfig
from .captions import read_caption
from .folder import PictureFile, list_pictures
from .unreadable import reason_in_words


def fingerprint(folder: Path, config: DatasetConfig, heldout_folder: Path | None = None) -> str:
    """A digest of every picture, caption and setting: it changes if and only if what is trained changes.

    A file that cannot be read counts as what it is, so that a data set with one does not change at every
    queue. Raises `DatasetError` if a folder cannot be read.
    """
    digest = hashlib.sha256(repr(config).encode())
    for root in filter(None, (folder, heldout_folder)):
        files, _ = list_pictures(root)
        for file in files:
            digest.update(repr(_facts(file)).encode())
        digest.update(b"end of folder")
    return digest.hexdigest()


def _facts(file: PictureFile) -> tuple:
    """All that training sees of a file. An empty caption and none are the same."""
    try:
        return file.name, file.repeats, content_digest(file.path), read_caption(file.caption_file)
    except DatasetError as unreadable:
        return file.name, file.repeats, str(unreadable)


# What `content_digest` read, by path: the stamp of the file at the time, and the digest.
_digests: dict[Path, tuple[tuple[int, ...], bytes]] = {}


def content_digest(path: Path) -> bytes:
    """SHA-256 of a file, which is read again only when it may have changed, so that a queue does not read all
    pictures.

    Its size, its time of modification, its number on the disk and the time at which that entry changed are
    compared. The last cannot be set back, except on Windows, where it is the time of creation: there a
    picture that is overwritten in place by one of the same size and time is not noticed. Raises
    `DatasetError` with the reason alone if the file cannot be read.
    """
    with reason_in_words():
        stat = path.stat()
        stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        known, digest = _digests.get(path, ((), b""))
        if stamp != known:
            digest = hashlib.sha256(path.read_bytes()).digest()
            _digests[path] = (stamp, digest)
    return digest
