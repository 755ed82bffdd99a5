"""Which names a LoRA file may have: the same on every system, so that a file can be shared.

A name that is accepted here is saved under exactly that name, is listed by ComfyUI's Load LoRA, and is not
reserved on Windows.
"""

import unicodedata

from ..errors import SettingError, shown

ENDING = ".safetensors"
SEPARATOR = "/"
MOST_BYTES = 239  # per part: with the ending and a number such as _999, 255 bytes, which is what disks take
MOST_BYTES_IN_ALL = 500
_NOT_ON_WINDOWS = '<>:"|?*'
_DIGITS = "123456789¹²³"
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{device}{digit}" for device in ("com", "lpt") for digit in _DIGITS
}
_CONTROLS = {"Cc", "Zl", "Zp"}  # Unicode categories: control characters, line and paragraph separators
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def checked_name(filename: str) -> str:
    """The name of a LoRA file below the LoRA folder, without its ending: 'my_lora' or 'styles/my_lora'.

    Raises `SettingError` that says why a name cannot be used. Nothing is corrected: what is returned is what
    was written, but for one '.safetensors' at its end.
    """
    if not isinstance(filename, str):
        raise _refused(filename, "it is not a text")
    name = filename.removesuffix(ENDING)
    problem = "it is empty" if not name.strip() else _problem_of(name)
    if problem:
        raise _refused(filename, problem)
    return name


def safe_part(text: str, most_bytes: int = 60) -> str:
    """One part of a file name that `checked_name` accepts, as near to a text as can be.

    Of a long text it is the end.
    """
    plain = "".join("_" if character == SEPARATOR or _odd(character) else character for character in text)
    part = plain.encode()[-most_bytes:].decode(errors="ignore").strip().strip(". ")
    return part if part and not _problem_of_part(part) else f"run_{part}".rstrip("_")


def _refused(filename: object, problem: str) -> SettingError:
    return SettingError(
        f"filename: expected a name such as 'my_lora' or 'styles/my_lora', got {shown(filename)}: {problem}."
    )


def _problem_of(name: str) -> str | None:
    """Why a name cannot be used, as the end of a sentence."""
    too_long = f"it has more than {MOST_BYTES_IN_ALL} bytes"
    if len(name) > MOST_BYTES_IN_ALL:  # first: no need to read a million characters
        return too_long
    if any(map(_is_surrogate, name)):
        return "it holds half of a character, which no disk can store"
    if len(name.encode()) > MOST_BYTES_IN_ALL:
        return too_long
    return next(filter(None, map(_problem_of_part, name.split(SEPARATOR))), None)


def _problem_of_part(part: str) -> str | None:
    """Why a part between two '/' cannot be used."""
    if not part:
        return "a '/' needs a name before and after it"
    if "\\" in part:
        return "write '/' instead of '\\'"
    odd = next(filter(_odd, part), None)
    if odd:
        return f"the character {odd!r} cannot be in a file name on every system"
    if part.startswith("."):
        return "a name, or a folder in it, cannot begin with a dot"
    if part.endswith(".") or part != part.strip():
        return "a name, or a folder in it, cannot end with a dot, nor begin or end with a space"
    if part.split(".")[0].rstrip().lower() in _RESERVED:
        return f"Windows reserves {shown(part.split('.')[0])} for a device"
    if len(part.encode()) > MOST_BYTES:
        return f"{shown(part)} has {len(part.encode())} bytes, and {MOST_BYTES} are the most"
    return None


def _odd(character: str) -> bool:
    """Whether a character cannot be in a part of a file name."""
    return (
        character == "\\"
        or character in _NOT_ON_WINDOWS
        or character in _DIRECTIONS
        or unicodedata.category(character) in _CONTROLS
        or _is_surrogate(character)
    )


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"
