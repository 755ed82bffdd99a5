"""How a setting is declared once: default, range, choices and help, for the dataclass that checks and the
node that shows.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import SettingError


@dataclass(frozen=True)
class Limits:
    """What a node shows of a setting: its tooltip, range, step of the arrows, and choices."""

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


def check_settings(settings: Any) -> None:
    """Raises `SettingError` for the first setting that is out of its limits."""
    for name, (default, limits) in limits_of(type(settings)).items():
        value = getattr(settings, name)
        label = name.replace("_", " ")
        if limits.choices and value not in limits.choices:
            raise SettingError(
                f"{label}: expected one of {', '.join(map(repr, limits.choices))}, got {value!r}."
            )
        if isinstance(default, bool) or not isinstance(default, int | float):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SettingError(f"{label}: expected a number, got {value!r}.")
        if limits.min is not None and value < limits.min:
            raise SettingError(f"{label}: expected at least {limits.min}, got {value}.")
        if limits.max is not None and value > limits.max:
            raise SettingError(f"{label}: expected at most {limits.max}, got {value}.")
