"""Loads the pack as the one package `comfyui_dadapt_lora`, as ComfyUI does under its path, and gives tests a
real server to talk to.

Nothing of ComfyUI is importable in the process that runs the tests. What needs ComfyUI goes over HTTP, or
runs in a process of its own.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

from demo.stage import stage_checkpoint
from devhost.base import prepare_base
from devhost.client import Client
from devhost.layout import PACK_NAME, Host
from devhost.pack import load_pack
from devhost.server import HostServer
from tests.host.tiny_families.detection import CUSTOM_NODE, add_custom_node

ROOT = Path(__file__).resolve().parents[1]

load_pack()

REGISTERED_FOLDER = "portraits"  # below the folder that extra_model_paths.yaml names
DEMO_PICTURES = {
    "train/4_fluent3d": 6,
    "heldout": 2,
}  # so many of the demo's: every one of them would be encoded

# tests that cannot run on this machine ----------------------------------------------------------------------


def find_chromium() -> str | None:
    """The browser for tests marked `browser`."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _makes_devices() -> bool:
    from torch.utils import backend_registration

    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


def _has_hub_of_diffusers() -> bool:
    from importlib.metadata import version

    return version("huggingface_hub").startswith("0.")


NEEDS = {
    "linux": (lambda: sys.platform == "linux", "only Linux limits a process that is running already"),
    "posix": (
        lambda: os.name == "posix",
        "Windows keeps no time at which an entry changed, and has no file names that are not text",
    ),
    "browser": (find_chromium, "no chromium found; install Debian's chromium"),
    "gpu": (_has_gpu, "no CUDA device seen by torch"),
    "diffusers": (
        _has_hub_of_diffusers,
        "the tests' diffusers needs huggingface_hub 0, as transformers 4 has",
    ),
    "made_in_python": (_makes_devices, "this torch cannot make a device in Python; 2.11 can"),
}
_left_out = pytest.StashKey[dict[str, list[str]]]()


def pytest_configure(config):
    config.stash[_left_out] = {}


def pytest_runtest_setup(item):
    """The only reasons for which a test is left out. `pytest_terminal_summary` names each."""
    for marker, (is_there, reason) in NEEDS.items():
        if item.get_closest_marker(marker) and not is_there():
            item.config.stash[_left_out].setdefault(marker, []).append(item.nodeid)
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter, config):
    for marker, tests in config.stash[_left_out].items():
        terminalreporter.write_line(f"left out: {len(tests)} {marker} tests: {NEEDS[marker][1]}", yellow=True)
        for test in tests:
            terminalreporter.write_line(f"    {test}")


# a real server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One ComfyUI for the session, with the demo's model, a few of its pictures, and nodes that output tiny
    models of other families.

    On the CPU, where a prompt repeats bit for bit.
    """
    base = prepare_base(tmp_path_factory.mktemp("comfyui"))
    stage_checkpoint(base)
    for folder, count in DEMO_PICTURES.items():
        copy_pictures(ROOT / "demo" / "dataset" / folder, base / "input" / "dadapt_demo" / folder, count)
    registered = tmp_path_factory.mktemp("elsewhere")
    copy_pictures(ROOT / "demo" / "dataset" / "heldout", registered / REGISTERED_FOLDER, 2)
    paths = base / "registered.yaml"
    paths.write_text(f"tests:\n    dadapt_datasets: {registered.as_posix()}\n", encoding="utf-8")
    add_custom_node(base)
    with HostServer(
        Host.from_environment(),
        base,
        device="cpu",
        arguments=("--extra-model-paths-config", str(paths)),
        custom_nodes=(PACK_NAME, CUSTOM_NODE),
    ) as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    with Client(server.url) as connected:
        yield connected


def copy_pictures(source: Path, target: Path, count: int) -> None:
    """The first pictures of a folder with their captions."""
    target.mkdir(parents=True, exist_ok=True)
    for picture in sorted(source.glob("*.png"))[:count]:
        shutil.copyfile(picture, target / picture.name)
        shutil.copyfile(picture.with_suffix(".txt"), target / picture.with_suffix(".txt").name)
