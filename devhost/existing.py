"""Uses a ComfyUI that is already on the machine.

The one thing that is changed there is its Python environment: what requirements.txt names and it lacks, or
has in another version, is installed, after saying so. All else that is installed already is given to pip as
constraints, so that no torch, numpy or transformers of the user is ever replaced.
"""

import json
import re
import tempfile
from pathlib import Path

from .console import say
from .errors import HostError
from .layout import Host, python_of
from .pip import ask_pip, install
from .setup import REQUIREMENTS_FILE


def use_existing(comfyui: Path, python: Path | None) -> Host:
    """That ComfyUI with its Python. Raises HostError where either cannot be found."""
    comfyui = comfyui.expanduser().absolute()
    if not (comfyui / "main.py").is_file() or not (comfyui / "folder_paths.py").is_file():
        raise HostError(
            f"Expected ComfyUI (the folder with main.py) at {comfyui}, found none. Correct --comfyui."
        )
    host = Host(comfyui, python.expanduser().absolute() if python else _find_python(comfyui))
    if not host.python.is_file():
        raise HostError(f"Expected a Python at {host.python}, found none. Correct --python.")
    _install_what_is_missing(host.python)
    return host


def _find_python(comfyui: Path) -> Path:
    candidates = (
        python_of(comfyui / "venv"),
        python_of(comfyui / ".venv"),
        comfyui.parent / "python_embeded" / "python.exe",  # ComfyUI's Windows package; its spelling
    )
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    tried = ", ".join(map(str, candidates))
    raise HostError(
        f"Found no Python beside {comfyui} (tried {tried}). Name the one that runs it with --python."
    )


def _install_what_is_missing(python: Path) -> None:
    wanted = ("-r", str(REQUIREMENTS_FILE))
    if ask_pip(python, "install", "--dry-run", "--no-index", *wanted).returncode == 0:
        return  # pip could do it without any package, so there is nothing to do
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(_installed_versions(python), encoding="utf-8")
        missing = _missing_packages(python, *wanted, "--constraint", str(constraints))
        say(f"Will install into {python}: {', '.join(missing)}. No other package is changed.")
        install(python, (), "--quiet", *wanted, "--constraint", str(constraints))


def _installed_versions(python: Path) -> str:
    """A constraints file of everything installed, except what requirements.txt itself asks for."""
    listed = ask_pip(python, "list", "--format=json")
    if listed.returncode:
        raise HostError(f"pip could not list the packages of {python}: {listed.stderr.strip()}")
    lines = REQUIREMENTS_FILE.read_text(encoding="utf-8").splitlines()
    ours = {_plain(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in lines}
    packages = [(package["name"], package["version"]) for package in json.loads(listed.stdout)]
    return "\n".join(f"{name}=={version}" for name, version in packages if _plain(name) not in ours)


def _missing_packages(python: Path, *arguments: str) -> list[str]:
    answer = ask_pip(python, "install", "--dry-run", "--quiet", "--report", "-", *arguments)
    if answer.returncode:
        raise HostError(
            f"requirements.txt does not fit the packages of {python}, and none of them is replaced. pip says:"
            f" {answer.stderr.strip()}"
        )
    planned = [package["metadata"] for package in json.loads(answer.stdout)["install"]]
    return [f"{package['name']} {package['version']}" for package in planned]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
