"""Trainers that take turns really do: two toy children write what they do into one file."""

import sys
from functools import partial
from pathlib import Path

import pytest
from comfyui_dadapt_lora.benchmarks.turns import Trainer, alternate, in_turns, one_after_the_other

from devhost.errors import HostError
from tests.conftest import ROOT

TOY = """
import sys
from functools import partial
from pathlib import Path
from benchmarks.turns import Gate, told_when_over

name, journal = sys.argv[1], Path(sys.argv[2])
gate = Gate.over_stdout()
print("what a library prints is no message")

def write(text):
    with journal.open("a", encoding="utf-8") as file:
        file.write(f"{name} {text}\\\\n")

with told_when_over(gate, lambda: {"name": name}):
    while True:
        write("begins")
        write("ends")
        if name == "mortal" and gate.steps == 2:
            raise RuntimeError("out of something")
        gate.step(name=name)
"""


@pytest.fixture
def toy(tmp_path):
    """Starts a toy trainer of that name."""
    (tmp_path / "toy_child.py").write_text(TOY.replace("\\\\", "\\"), encoding="utf-8")

    def start(name: str) -> Trainer:
        run_module = ROOT / "devhost" / "run_module.py"
        command = [
            sys.executable,
            str(run_module),
            str(ROOT),
            str(tmp_path),
            "--",
            "toy_child",
            name,
            str(tmp_path / "journal"),
        ]
        return Trainer(command, tmp_path / f"{name}.log")

    return start


def journal(tmp_path: Path) -> list[str]:
    return (tmp_path / "journal").read_text(encoding="utf-8").splitlines()


def test_one_step_of_each_in_turn_and_never_two_at_once(toy, tmp_path):
    with toy("a") as a, toy("b") as b:
        assert len(journal(tmp_path)) == 4  # each has done its first step and waits
        alternate([a, b], rounds=3, warm_up=1)
        assert a.stop()["name"] == "a"
        assert b.stop()["name"] == "b"
    assert journal(tmp_path) == 5 * ["a begins", "a ends", "b begins", "b ends"]


def test_where_two_do_not_fit_the_second_starts_after_the_first_has_ended(toy, tmp_path):
    counted = one_after_the_other([partial(toy, "a"), partial(toy, "b")], rounds=2, warm_up=1)
    assert journal(tmp_path) == [
        f"{name} {what}" for name in "ab" for _ in range(4) for what in ("begins", "ends")
    ]
    assert [[message["name"] for message in messages] for messages in counted] == [["a", "a"], ["b", "b"]]


def test_warm_up_is_not_counted(toy):
    counted = in_turns([partial(toy, "a"), partial(toy, "b")], rounds=2, warm_up=2)
    assert [[message["step"] for message in messages] for messages in counted] == [[4, 5], [4, 5]]
    assert all(message["seconds"] > 0 for messages in counted for message in messages)


def test_the_first_step_has_no_time_because_nobody_told_it_to_start(toy):
    with toy("a") as a:
        assert a.first["seconds"] is None


def test_a_child_that_dies_is_an_error_with_its_last_words(toy):
    with pytest.raises(HostError, match="out of something"), toy("mortal") as mortal:
        alternate([mortal], rounds=5, warm_up=0)


def test_a_child_ends_with_the_block(toy):
    with toy("a") as a:
        process = a._process
    assert process.returncode is not None
