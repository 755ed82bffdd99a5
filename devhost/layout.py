"""Where everything lies.

Shared between checkouts when DADAPT_LORA_HOST names a folder, else in `.host/` of this checkout:

    env/        the virtual environment that runs ComfyUI
    ComfyUI/    ComfyUI itself
    tools/      pytest and what the tests need beside it, one folder per Python version, never inside env/
    lint/       a small virtual environment with ruff

Always in this checkout: `.host/base/` (models, input, output, user, database, custom_nodes of the demo's
server).
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .errors import HostError

PACK_NAME = "comfyui-dadapt-lora"
CHECKOUT = Path(__file__).resolve().parent.parent

# Read from the person's environment: the folder for env/, ComfyUI/, tools/ and lint/.
SHARED_FOLDER_VARIABLE = "DADAPT_LORA_HOST"
# Given by run.py to what it starts (the demo, pytest): the ComfyUI in use and the Python that runs it.
COMFYUI_VARIABLE = "DADAPT_LORA_COMFYUI"
PYTHON_VARIABLE = "DADAPT_LORA_PYTHON"
# Given by run.py too: when the command started, in seconds since 1970.
STARTED_VARIABLE = "DADAPT_LORA_STARTED"


@dataclass(frozen=True)
class Host:
    """A ComfyUI that can be started: the folder with main.py, and the Python that has its packages."""

    comfyui: Path
    python: Path

    def to_environment(self) -> dict[str, str]:
        return {COMFYUI_VARIABLE: str(self.comfyui), PYTHON_VARIABLE: str(self.python)}

    @classmethod
    def from_environment(cls) -> "Host":
        """The ComfyUI that run.py chose. Raises HostError where run.py did not start this process."""
        missing = [name for name in (COMFYUI_VARIABLE, PYTHON_VARIABLE) if not os.environ.get(name)]
        if missing:
            raise HostError(
                f"{' and '.join(missing)} not set: start this through `python run.py`, which sets them."
            )
        return cls(Path(os.environ[COMFYUI_VARIABLE]), Path(os.environ[PYTHON_VARIABLE]))


def local_folder() -> Path:
    return CHECKOUT / ".host"


def shared_folder() -> Path:
    named = os.environ.get(SHARED_FOLDER_VARIABLE)
    return Path(named).expanduser().absolute() if named else local_folder()


def default_base() -> Path:
    return local_folder() / "base"


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment.

    Not resolved: the link is what makes it that environment's Python.
    """
    return (
        environment / "Scripts" / "python.exe" if sys.platform == "win32" else environment / "bin" / "python"
    )


def script_of(environment: Path, name: str) -> Path:
    python = python_of(environment)
    return python.with_name(name + python.suffix)


def own_host() -> Host:
    """The ComfyUI and the environment that `setup` makes."""
    return Host(shared_folder() / "ComfyUI", python_of(shared_folder() / "env"))
