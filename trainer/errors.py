"""Everything this pack raises on purpose.

TrainerError
├── SettingError    a value that somebody set at a node or in an API call cannot work
├── DatasetError    the pictures or captions cannot be trained on
├── ModelError      the model is of a family, or in a form, that is not supported
├── LoraFileError   a LoRA file does not hold what it should
└── DivergedError   the numbers of a run are no longer finite

Each message says what was expected, what came, and what to do, in the words of the person at the graph.
"""

import reprlib
from typing import Any

LONGEST_SHOWN = 120  # characters


class TrainerError(Exception):
    """Base of all errors of this pack."""


class SettingError(TrainerError, ValueError):
    """A value that somebody set at a node or in an API call cannot work."""


class DatasetError(TrainerError):
    """The pictures or captions cannot be trained on."""


class ModelError(TrainerError):
    """The model is of a family, or in a form, that is not supported."""


class LoraFileError(TrainerError):
    """A LoRA file does not hold what it should."""


class DivergedError(TrainerError):
    """The numbers of a run are no longer finite."""


class _Shortened(reprlib.Repr):
    """Python's repr, with long text and lists cut, and only the type of what is not plain data."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring = 3, 60

    def repr_instance(self, x: Any, level: int) -> str:
        return repr(x) if isinstance(x, float | None) else f"a {type(x).__name__}"

    def repr_bool(self, x: bool, level: int) -> str:
        return str(x).lower()


def shown(value: Any) -> str:
    """How an error shows a value that somebody set: at most `LONGEST_SHOWN` characters of it."""
    if value is None:
        return "nothing"
    try:
        text = _Shortened().repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 4]} ..."
