"""How a setting is declared once: default, range, choices and help.

The dataclass checks them, and the node shows them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

from ..errors import SettingError, shown


@dataclass(frozen=True)
class Limits:
    """What a node shows of a setting: its tooltip, range, step of the arrows, and choices.

    The range of a text is that of its length in characters.
    """

    help: str
    min: float | None = None
    max: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field with `Limits`, for `check_settings` and for the node that is generated from it."""
    return field(default=default, metadata={"limits": Limits(help, **limits)})


def limits_of(settings: type) -> dict[str, tuple[Any, Limits]]:
    """Maps the name of each declared setting of a dataclass to its default and limits, in order."""
    return {f.name: (f.default, f.metadata["limits"]) for f in fields(settings) if "limits" in f.metadata}


def kind_of(settings: type, name: str) -> Any:
    """The type of a setting's field."""
    return settings.__dataclass_fields__[name].type


def check_settings(settings: Any) -> None:
    """Puts each setting of a dataclass into the type of its field. Raises the errors of `checked`."""
    for name in limits_of(type(settings)):
        # frozen, and not yet in anybody's hands
        object.__setattr__(settings, name, checked(type(settings), name, getattr(settings, name)))


def checked(settings: type, name: str, value: Any) -> Any:
    """`value` for the setting `name` of a dataclass, in the type of its field.

    A number may be written as 16, 16.0 or "16", true and false as 1 and 0: JSON and other nodes do. Raises
    `SettingError` for a value of another kind or out of its limits.
    """
    label = name.replace("_", " ")
    limits = limits_of(settings)[name][1]
    if limits.choices:
        return _choice(label, value, limits.choices)
    return _CHECKS.get(kind_of(settings, name), _anything)(label, value, limits)


def _choice(label: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise SettingError(f"{label}: expected one of {', '.join(map(repr, choices))}, got {shown(value)}.")
    return value


def _switch(label: str, value: Any, limits: Limits) -> bool:
    if not isinstance(value, int | float) or value not in (0, 1):
        raise SettingError(f"{label}: expected true or false, got {shown(value)}.")
    return bool(value)


def _text(label: str, value: Any, limits: Limits) -> str:
    if not isinstance(value, str):
        raise SettingError(f"{label}: expected text, got {shown(value)}.")
    if limits.max is not None and len(value) > limits.max:
        raise SettingError(f"{label}: expected at most {limits.max} characters, got {len(value):,}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SettingError(
            f"{label}: expected text, got half a character ({shown(value[error.start])}), which no file can"
            " hold. Type it again."
        ) from error
    return value


def _number(label: str, value: Any, limits: Limits) -> float:
    number = _as_number(value)
    if number is None:
        raise SettingError(f"{label}: expected a number, got {shown(value)}.")
    return float(_within(label, number, limits))


def _whole_number(label: str, value: Any, limits: Limits) -> int:
    number = _as_number(value)
    if number is None or number != int(number):
        raise SettingError(f"{label}: expected a whole number, got {shown(value)}.")
    return int(_within(label, number, limits))


def _as_number(value: Any) -> Real | None:
    """A finite number, also one that is written as text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return value if -math.inf < value < math.inf else None  # nan is in no range


def _within(label: str, value: Any, limits: Limits) -> Any:
    if limits.min is not None and value < limits.min:
        raise SettingError(f"{label}: expected at least {limits.min}, got {shown(value)}.")
    if limits.max is not None and value > limits.max:
        raise SettingError(f"{label}: expected at most {limits.max}, got {shown(value)}.")
    return value


def _anything(label: str, value: Any, limits: Limits) -> Any:
    """A field of several types is checked by its own class."""
    return value


_CHECKS: dict[Any, Callable[[str, Any, Limits], Any]] = {
    bool: _switch,
    int: _whole_number,
    float: _number,
    str: _text,
}
