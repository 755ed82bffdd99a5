"""What the commands of run.py do. Each returns an exit status."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from .base import prepare_base
from .child import run_in_foreground
from .console import say
from .errors import HostError
from .layout import CHECKOUT, STARTED_VARIABLE, Host, default_base
from .setup import prepare_host, prepare_ruff, prepare_test_tools

RUN_MODULE = Path(__file__).with_name("run_module.py")


def setup(options: argparse.Namespace) -> int:
    host = _prepare(options)
    prepare_base(default_base())
    say(f"Ready: ComfyUI in {host.comfyui}, run by {host.python}")
    return 0


def demo(options: argparse.Namespace) -> int:
    arguments = ["--device", options.device, "--output", str(options.output.expanduser().absolute())]
    arguments += ["--steps", str(options.steps)] if options.steps else []
    return _run_module(_prepare(options), [CHECKOUT], "demo.run_demo", arguments)


def test(options: argparse.Namespace) -> int:
    host = _prepare(options)
    return _run_module(host, [prepare_test_tools(host.python)], "pytest", options.arguments)


def bench(options: argparse.Namespace) -> int:
    return _run_module(_prepare(options), [CHECKOUT], "benchmarks.run_bench", options.arguments)


def lint(options: argparse.Namespace) -> int:
    ruff = str(prepare_ruff())
    checked = run_in_foreground([ruff, "check", *options.arguments], CHECKOUT, {})
    return checked or run_in_foreground([ruff, "format", "--check"], CHECKOUT, {})


def _prepare(options: argparse.Namespace) -> Host:
    if options.comfyui is None:
        return prepare_host()
    from .existing import use_existing

    return use_existing(options.comfyui, options.python)


def _run_module(host: Host, folders: Sequence[Path], module: str, arguments: Sequence[str]) -> int:
    """Runs a module under ComfyUI's Python; it is told the ComfyUI in use and when this command started."""
    command = [str(host.python), str(RUN_MODULE), *map(str, folders), "--", module, *arguments]
    status = run_in_foreground(command, CHECKOUT, host.to_environment() | {STARTED_VARIABLE: str(STARTED)})
    if status < 0:
        raise HostError(f"{module} was ended from outside, by signal {-status}.")
    return status


STARTED = time.time()
