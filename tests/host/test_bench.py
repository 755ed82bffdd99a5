"""`run.py bench` on the demo's model: real processes of both trainers, few steps.

What the figures are is nobody's claim here.
"""

import json
import os
import subprocess

import pytest

from devhost.layout import CHECKOUT, Host, local_folder

RUN_MODULE = CHECKOUT / "devhost" / "run_module.py"
STEP_RATIOS = ("step_vs_host_same_layers", "step_vs_host_same_layers_checkpointed", "step_vs_host_default")
FEW = ("--rounds", 2, "--outside-from", 3, "--outside-steps", 4)
QUICK = ("--device", "cpu", "--models", "demo", "--batches", "1")


def run_bench(*arguments):
    host = Host.from_environment()
    command = [
        str(host.python),
        str(RUN_MODULE),
        str(CHECKOUT),
        "--",
        "benchmarks.run_bench",
        *map(str, arguments),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | host.to_environment()
    )


def bench(*arguments):
    """What it prints."""
    done = run_bench(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What two counted steps of each trainer gave: the text and the file."""
    file = tmp_path_factory.mktemp("bench") / "train.json"
    text = bench("train", *QUICK, *FEW, "--json", file)
    return text, file


def test_train_gives_every_ratio_that_was_asked_for(trained):
    ratios = json.loads(trained[1].read_text(encoding="utf-8"))["ratios"]
    for name in STEP_RATIOS:
        assert ratios[name] == ratios[f"{name}/demo/b1"] > 0
    assert ratios["outside_network_share"] == max(
        ratios[f"outside_network_share/demo/b{batch}"] for batch in (1, 2)
    )
    assert 0 < ratios["outside_network_share"] < 1


def test_every_step_stands_beside_its_floor(trained):
    rows = json.loads(trained[1].read_text(encoding="utf-8"))["train"]["rows"]
    assert len(rows) == len(STEP_RATIOS)
    for row in rows:
        assert row["ours"]["median"] > 0 < row["theirs"]["median"]
        assert row["ours"]["floor"] > 0 < row["theirs"]["floor"]
    merged, ours = rows[0]["theirs"]["floor"], rows[0]["ours"]["floor"]
    assert merged > ours


def test_the_table_names_the_peers_that_were_not_given(trained):
    assert "sd-scripts: not given" in trained[0]
    assert "A ComfyUI of 2026: not given" in trained[0]


def test_memory_gives_its_ratio_and_compares_with_earlier_figures(trained, tmp_path):
    file = tmp_path / "memory.json"
    text = bench("memory", *QUICK, "--only", "host_default", "--json", file, "--compare", trained[1])
    assert json.loads(file.read_text(encoding="utf-8"))["ratios"]["memory_vs_host_default"] > 0
    assert "| step_vs_host_default | missing |" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tran",), "one of all, train, memory"),
        (("memory", "--modles", "demo"), "Unknown argument --modles"),
        (("memory", "--only", "host"), "expected some of host_same_layers"),
        (("optimizer", "--compare", "nowhere.json"), "nowhere.json"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(arguments, words):
    done = run_bench(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_nothing_is_left_on_disk(trained):
    assert not list(local_folder().glob("bench-*"))
