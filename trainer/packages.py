"""Imports the packages of requirements.txt: says what to do where one is missing, and stops their prints."""

import contextlib
import io
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from .errors import SettingError


def package(name: str, what_for: str) -> ModuleType:
    """The module `name`. Raises `SettingError` that says how to install it where it is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.split(".")[0]:
            raise
        raise SettingError(
            f"{what_for} needs the package {error.name!r}, which ComfyUI's Python does not have. Install what"
            " this pack needs: `python -m pip install -r requirements.txt` in its folder, with ComfyUI's"
            " Python."
        ) from error


def quietly(build: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """What `build` returns, without what it prints: these packages' optimizers print when they are made."""
    with contextlib.redirect_stdout(io.StringIO()):
        return build(*arguments, **settings)
