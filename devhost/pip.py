"""Virtual environments, and pip inside them.

What pip writes goes to stderr. Every Python is started without PYTHONPATH, which was meant for another one.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import HostError
from .layout import python_of


def clean_environment() -> dict[str, str]:
    """This process's environment variables without those that change where a Python finds its packages."""
    unwanted = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONSAFEPATH", "__PYVENV_LAUNCHER__"}
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def make_environment(folder: Path) -> Path:
    """Makes a fresh environment of the Python that runs this, and returns its Python.

    What was in the folder before is gone.
    """
    try:
        _call([sys.executable, "-m", "venv", "--clear", str(folder)])
    except subprocess.CalledProcessError as error:
        raise HostError(
            f"{sys.executable} could not make a virtual environment in {folder} (its words are above). "
            "On Debian and Ubuntu it lacks a package: `apt install python3-venv`."
        ) from error
    return python_of(folder)


def install(python: Path, requirements: Sequence[str], *options: str) -> None:
    """Runs `pip install` for that Python. Raises HostError where pip fails."""
    pip(python, "install", *options, *requirements)


def pip(python: Path, *arguments: str) -> None:
    """Runs pip where the person can follow it. Raises HostError where it fails."""
    try:
        _call([*pip_command(python), *arguments])
    except subprocess.CalledProcessError as error:
        raise HostError(f"`pip {arguments[0]}` failed for {python}; its words are above.") from error


def ask_pip(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs pip quietly; its answer is in `.returncode`, `.stdout` and `.stderr`."""
    command = [*pip_command(python), *arguments]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)


def pip_command(python: Path) -> list[str]:
    """How to call pip for that Python. Raises HostError where there is none.

    An environment that uv made has no pip of its own. Then it is the pip of the Python that runs this.
    """
    options = ["--disable-pip-version-check", "--no-input"]
    if _has_pip(python):
        return [str(python), "-m", "pip", *options]
    if _has_pip(Path(sys.executable)):
        return [sys.executable, "-m", "pip", "--python", str(python), *options]
    raise HostError(
        f"Neither {python} nor {sys.executable} has pip. Give it one: `{sys.executable} -m ensurepip`."
    )


def _has_pip(python: Path) -> bool:
    command = [str(python), "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('pip') is None)"]
    return subprocess.run(command, env=clean_environment(), capture_output=True, check=False).returncode == 0


def _call(command: list[str]) -> None:
    subprocess.run(command, env=clean_environment(), stdout=sys.stderr, check=True)
