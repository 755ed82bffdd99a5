"""Why a picture or a caption cannot be read, in words that name no place on the disk."""

import errno
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from ..errors import DatasetError

# What the system and Pillow's decoders raise for a file that cannot be read: each format has its own.
_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_GONE = {errno.ENOENT, errno.ENOTDIR}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


@contextmanager
def reason_in_words() -> Iterator[None]:
    """Raises `DatasetError` for a file that cannot be read inside of the block.

    The message is the reason alone ("it is cut off or damaged"), without the name of the file: whoever reads
    the file knows what to call it.
    """
    try:
        yield
    except _ERRORS as error:
        raise DatasetError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The text of an error of Pillow or of the system is not used: it may contain the full path."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture, or of a type that cannot be read"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels; make it smaller"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text; save it as UTF-8"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it; make it smaller"
    if isinstance(error, OSError) and error.errno is not None:
        return _reason_of_the_system(error)
    return "it is cut off or damaged"


def _reason_of_the_system(error: OSError) -> str:
    if error.errno in _GONE:
        return "it is no longer there"
    if error.errno in _FORBIDDEN:
        return "ComfyUI is not allowed to read it"
    return f"the disk cannot read it ({error.strerror})"
