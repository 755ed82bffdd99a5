"""What the tests of the nodes share."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.stage import stage_checkpoint
from devhost.base import prepare_base
from devhost.layout import Host
from tests.host import graph, results

STEPS = 6
DTYPES = ("fp32", "bf16", "fp16")


@pytest.fixture(scope="module")
def found_by(tmp_path_factory) -> Callable[[str], dict]:
    """The JSON object that a script of this folder prints, in ComfyUI's own Python: nothing of ComfyUI is
    importable here.
    """

    def found(script: str) -> dict:
        host, base = Host.from_environment(), prepare_base(tmp_path_factory.mktemp(Path(script).stem))
        stage_checkpoint(base)
        command = [str(host.python), str(Path(__file__).with_name(script)), str(host.comfyui), str(base)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return found


@pytest.fixture
def folder(server, tmp_path):
    """A new folder of its own below input/, with two flat pictures and their captions."""
    path = server.base / "input" / "tests" / tmp_path.name
    path.mkdir(parents=True)
    for colour in ("red", "blue"):
        Image.new("RGB", (128, 128), colour).save(path / f"{colour}.png")
        (path / f"{colour}.txt").write_text(f"a {colour} wall", encoding="utf-8")
    return path


@pytest.fixture
def folder_name(server, folder):
    """What Load Dataset calls that folder."""
    return folder.relative_to(server.base / "input").as_posix()


@dataclass(frozen=True)
class Trained:
    """One short training that changes pictures, saved three times."""

    workflow: graph.Workflow
    train: str  # node id
    loras: dict[str, str]  # name in the host's Load LoRA, by the dtype of the file
    files: dict[str, Path]
    run_folder: Path
    without_lora: np.ndarray  # pictures of one prompt and seed
    with_lora: np.ndarray  # by Train's own MODEL and CLIP


@pytest.fixture(scope="session")
def trained(server, client) -> Trained:
    workflow = graph.training("dadapt_demo/train", duration=STEPS)
    graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
    train, loader = graph.node_of(workflow, "DAdaptTrain"), graph.loader(workflow)
    base = graph.add_picture(workflow, [loader, 0], [loader, 1])
    changed = graph.add_picture(workflow, [train, 0], [train, 1])
    saves = {
        dtype: graph.add(
            workflow,
            "DAdaptSaveLoRA",
            lora=[train, 2],
            filename=f"trained_{dtype}",
            dtype=dtype,
            existing_file="overwrite",
        )
        for dtype in DTYPES
    }
    execution = client.run(workflow).check()
    saved = {dtype: results.saved(execution, node) for dtype, node in saves.items()}
    return Trained(
        workflow,
        train,
        {dtype: found["name"] for dtype, found in saved.items()},
        {dtype: server.base / "output" / found["file"] for dtype, found in saved.items()},
        results.run_folder(server.base, execution, train),
        results.picture(client, execution, base),
        results.picture(client, execution, changed),
    )
