"""Runs a command in the foreground and waits for it, also through Ctrl-C."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .pip import clean_environment

SECONDS_TO_CLEAN_UP = 30


def run_in_foreground(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Returns the exit status. `environment` is added to this process's own.

    On Ctrl-C the terminal tells the command as well, which then stops its server first. A SIGTERM is passed
    on to the command.
    """
    signal.signal(signal.SIGTERM, _raise_exit)
    process = subprocess.Popen(command, cwd=folder, env=clean_environment() | dict(environment))
    try:
        return process.wait()
    except KeyboardInterrupt:
        _wait(process)
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            _wait(process)
            process.kill()


def _raise_exit(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _wait(process: subprocess.Popen) -> None:
    try:
        process.wait(SECONDS_TO_CLEAN_UP)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        return
