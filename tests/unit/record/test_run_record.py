"""What a run leaves behind: which LoRAs stay, what is on disk, what is said, however it ends."""

import json
import os

import pytest
import safetensors
import torch
from comfyui_dadapt_lora.trainer.adapters import file as lora_file
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.record import folder as folder_module
from comfyui_dadapt_lora.trainer.record.folder import RunPlace, removed_if_no_step
from comfyui_dadapt_lora.trainer.record.run_record import RunRecord
from comfyui_dadapt_lora.trainer.run.control import Asked, Control
from comfyui_dadapt_lora.trainer.run.events import Notice, StepRecord

from tests.unit.record.toy_facts import facts_of
from tests.unit.toy import ToyNetwork, adapters_of, toy_grid, training

STEPS = 12


class Cancelled(Exception):
    pass


class CancelAfter(Control):
    cancels = (Cancelled,)

    def __init__(self, step):
        self.left = step

    def hear(self, event):
        self.left -= isinstance(event, StepRecord)

    def ask(self):
        if self.left <= 0:
            raise Cancelled("by somebody")
        return Asked.GO


class Run:
    """One run of the toy with its record, in a folder of its own."""

    def __init__(self, tmp_path, cancel_after=10**6, output="best", measured=True, **settings):
        self.said = []
        self.events = []
        self.folder = tmp_path / "run_0001"
        self.folder.mkdir()
        self.spare = tmp_path / "spare"
        place = RunPlace(self.folder, "loras/run_0001", self.spare, "the spare folder")
        control = CancelAfter(cancel_after)
        facts = facts_of(STEPS, output)
        self.record = RunRecord(facts, place, ["what ran"], [control, self], self.said.append)
        network = ToyNetwork()
        self.adapters = adapters_of(network)
        self.training = training(
            network,
            self.adapters,
            steps=STEPS,
            tell=self.record.hear,
            control=control,
            heldout=toy_grid(network) if measured else None,
            measure_every=4,
            **settings,
        )

    def hear(self, event):
        self.events.append(event)

    def go(self):
        with attached(self.adapters):
            return self.training.run()

    def cancelled(self):
        with pytest.raises(Cancelled):
            self.go()

    def loras(self):
        """The step of each LoRA in the folder."""
        return {file.stem: step_of(file) for file in self.folder.glob("*.safetensors")}

    def report(self):
        return json.loads((self.folder / "report.json").read_text(encoding="utf-8"))


def step_of(file):
    with safetensors.safe_open(file, "pt") as opened:
        return int(opened.metadata()["ss_steps"])


OVERTRAINS = {"preset": "AdamW", "adamw_rate": 1.0}  # the best LoRA is not the last one


@pytest.mark.parametrize("output", ["best", "last"])
def test_the_output_is_what_was_chosen_and_the_other_one_stays_beside_it(tmp_path, output):
    run = Run(tmp_path, output=output, burn_guard=False, **OVERTRAINS)
    run.go()
    report = run.record.report
    assert report.best.step < STEPS
    chosen, other = (report.best.step, STEPS) if output == "best" else (STEPS, report.best.step)
    beside = "last" if output == "best" else "best"
    assert run.loras() == {"lora": chosen, beside: other}
    assert run.record.output.record.step == report.output_step == chosen
    assert run.record.output_metadata["ss_steps"] == str(chosen)
    assert run.report()["ended"] == "finished"
    assert run.said == [report.text]


def test_a_cancel_keeps_the_lora_so_far_and_the_best_one_and_says_where_they_are(tmp_path):
    run = Run(tmp_path, cancel_after=7, burn_guard=False, **OVERTRAINS)
    run.cancelled()
    assert run.loras() == {"lora": 7, "best": 4}
    report = run.report()
    assert (report["ended"], report["step"], report["best_step"]) == ("cancelled", 7, 4)
    assert [step for step, _ in report["heldout"]] == [0, 4]
    (said,) = run.said
    assert said.splitlines() == [
        f"cancelled after step 7 of {STEPS}",
        "the LoRA until then: loras/run_0001/lora.safetensors, in Load LoRA after a press of R",
        "the best one, of step 4: loras/run_0001/best.safetensors",
    ]


def test_an_error_leaves_the_lora_and_says_what_ended_the_run(tmp_path):
    run = Run(tmp_path)
    network = run.training.training_step.work.network
    predict = network.predict

    def fail_at_6(*inputs):
        if torch.is_grad_enabled() and run.training.done == 5:
            raise RuntimeError("the GPU fell off the bus")
        return predict(*inputs)

    network.predict = fail_at_6
    with pytest.raises(RuntimeError, match="fell off the bus"):
        run.go()
    assert run.loras()["lora"] == 5
    assert run.report()["ended"] == "failed"
    assert run.report()["reason"] == "RuntimeError: the GPU fell off the bus"


def test_a_lora_with_a_value_that_is_not_finite_does_not_hide_what_ended_the_run(tmp_path):
    run = Run(tmp_path, cancel_after=7, measured=False, burn_guard=False)

    def spoil(event):
        if isinstance(event, StepRecord) and event.step == 7:
            run.adapters[0].up.data.fill_(float("nan"))

    run.record._listeners.listeners.insert(0, Listening(spoil))
    run.cancelled()
    assert run.loras() == {}
    assert run.report()["ended"] == "cancelled"
    (said,) = run.said
    assert "cancelled after step 7" in said and "values that fp32 cannot hold" in said


class Listening:
    def __init__(self, hear):
        self.hear = hear


class FullDisk:
    """A disk that is full from a moment on, below one folder."""

    def __init__(self, monkeypatch, folder):
        self.folder = folder
        self.is_full = False
        write = lora_file.write_lora
        monkeypatch.setattr(folder_module, "write_lora", lambda path, *rest: self.write(write, path, *rest))

    def write(self, write, path, *rest):
        if self.is_full and path.is_relative_to(self.folder):
            raise OSError(28, "No space left on device")
        write(path, *rest)


def test_a_cancel_on_a_full_disk_puts_the_lora_into_the_spare_folder(tmp_path, monkeypatch):
    run = Run(tmp_path, cancel_after=7, measured=False)
    FullDisk(monkeypatch, run.folder).is_full = True
    run.cancelled()
    (rescued,) = run.spare.glob("*.safetensors")
    assert step_of(rescued) == 7
    (said,) = run.said
    assert f"the LoRA until then: the spare folder/{rescued.name}" in said
    assert "No space left on device" in said


def test_a_disk_that_gets_full_is_told_once_and_does_not_end_the_run(tmp_path, monkeypatch):
    run = Run(tmp_path, save_every=2)
    FullDisk(monkeypatch, run.folder).is_full = True
    run.go()
    texts = [event.text for event in run.events if isinstance(event, Notice)]
    (told,) = [text for text in texts if "could not be written" in text]
    assert told.startswith("step_000002.safetensors could not be written to loras/run_0001: No space")
    assert any("could not be written" in warning for warning in run.record.report.warnings)
    assert [file.name for file in run.spare.glob("*")] == ["run_0001.safetensors"]


def test_a_report_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """As the process dies while it is written."""
    run = Run(tmp_path, measured=False)

    class Killed(BaseException):
        pass

    written = []

    def die_at_the_report(file):
        written.append(file)
        if len(written) == 2:  # the LoRA is the first
            raise Killed

    monkeypatch.setattr(os, "fsync", die_at_the_report)
    with pytest.raises(Killed):
        run.go()
    assert run.loras() == {"lora": STEPS}
    assert not (run.folder / "report.json").exists()


def test_a_run_that_ends_before_its_first_step_leaves_no_folder(tmp_path):
    run = Run(tmp_path, cancel_after=0)
    with pytest.raises(Cancelled), removed_if_no_step(run.record._closing.folder.place):
        run.go()
    assert not run.folder.exists()
    assert run.said == []


def test_every_step_is_a_line_of_json(tmp_path):
    run = Run(tmp_path)
    run.go()
    rows = [json.loads(line) for line in (run.folder / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[0]["dlr"].keys() == {"unet", "clip_l"}
