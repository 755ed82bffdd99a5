"""A run that is stopped at any step and goes on in another process ends as the whole run, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.record.history import History
from comfyui_dadapt_lora.trainer.record.keeping import Keeping
from comfyui_dadapt_lora.trainer.run.events import Finished, StepRecord, Unfinished
from comfyui_dadapt_lora.trainer.run.state import RunState
from comfyui_dadapt_lora.trainer.settings.presets import PRESETS

from tests.conftest import ROOT
from tests.unit.run.burning import BURNING
from tests.unit.run.resumable import STEPS, begun
from tests.unit.toy import weights

STOPPED_AT = (1, 12, 20, 24, 39)  # two of them just before a part stops or d freezes
EVERYTHING = "everything"  # stopped at every step
RUNS = {
    **{preset: {"preset": preset} for preset in PRESETS},
    "reference": {"implementation": "reference"},
    "average": {"ema": 0.9},
    "average, cosine": {"preset": "steady", "ema": 0.9},
    "stopped part": {"stop_text_encoder_percent": 50.0},
    "frozen d": {"freeze_d_percent": 50.0, "growth_rate": 1.2},
    "both": {"freeze_d_percent": 30.0, "stop_unet_percent": 60.0, "growth_rate": 1.2},
    "s in bf16": {"s_in_bf16": True, "growth_rate": 1.2},
    "burning": {**BURNING, "network": "brittle"},
    "burning, average": {**BURNING, "network": "brittle", "ema": 0.9},
    "objective": {
        "objective": {
            "noise_levels": "logit-normal",
            "least_noise": 0.1,
            "loss": "huber",
            "weighting": "min-SNR",
            "noise_offset": 0.1,
            "multires_iterations": 3,
            "input_perturbation": 0.1,
        }
    },
    "AdamW, stopped part": {"preset": "AdamW", "stop_text_encoder_percent": 50.0},
    EVERYTHING: {
        "ema": 0.9,
        "freeze_d_percent": 30.0,
        "stop_unet_percent": 60.0,
        "growth_rate": 1.2,
        "network": "skips some",
        "scaled": True,
    },
}
GO_ON = Path(__file__).with_name("go_on.py")


def stops_of(name):
    return tuple(range(1, STEPS)) if name == EVERYTHING else STOPPED_AT


def whole_run_with_states(settings, stops):
    """The end of the whole run, and the state that it had at each of the steps."""
    states = {}
    one, adapters = begun(settings)
    with attached(adapters):
        finish = one.control.wants_to_finish

        def before_step():
            if one.done in stops:
                states[one.done] = one.state()
            return finish()

        one.control.wants_to_finish = before_step
        one.run()
    return weights(adapters), states


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory):
    """The ends of all runs as another process finds them from their states, and as this one found them."""
    folder = tmp_path_factory.mktemp("states")
    ends = {}
    for name, settings in RUNS.items():
        end, states = whole_run_with_states(settings, stops_of(name))
        assert tuple(states) == stops_of(name)
        ends[name] = end
        torch.save({"settings": settings, "states": states}, folder / f"{name}.pt")
    command = [sys.executable, str(GO_ON), str(ROOT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ends, {name: torch.load(folder / f"{name}.end.pt", weights_only=True) for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_in_another_process_bit_for_bit(gone_on, name):
    ends, from_states = gone_on[0][name], gone_on[1][name]
    for step in stops_of(name):
        assert all(torch.equal(a, b) for a, b in zip(ends, from_states[step], strict=True)), step


def test_the_burning_runs_do_burn(gone_on):
    """Else they would prove nothing."""
    for name in ("burning", "burning, average"):
        one, adapters = begun(RUNS[name])
        with attached(adapters):
            assert one.run().burns


@pytest.mark.parametrize("name", ["guide 2023", "burning", EVERYTHING])
def test_a_run_that_took_over_a_state_has_that_state(name):
    """All of it but the time: a loss scale, for one, leaves no trace in the LoRA that could tell."""
    one, adapters = begun(RUNS[name])
    with attached(adapters):
        one.heldout.measure()
        one.guard.begin()
        for _ in range(25):
            one.step()
    one.copies._copied = 17.0
    other, _ = begun(RUNS[name])
    other.load(one.state())
    states = [as_lists(run.state()) for run in (one, other)]
    for state in states:
        del state["records"]["seconds"]
    assert json.dumps(states[0], sort_keys=True) == json.dumps(states[1], sort_keys=True)
    assert states[0]["copies"] == {"copied": 17.0}
    assert other.training_step.loss_scale == one.training_step.loss_scale


def test_a_state_shares_no_memory_with_the_run():
    one, adapters = begun({"ema": 0.9})
    with attached(adapters):
        for _ in range(3):
            one.step()
        state = one.state()
        before = json.dumps(as_lists(state))
        for _ in range(3):
            one.step()
    assert json.dumps(as_lists(state)) == before


def as_lists(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): as_lists(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_lists(inner) for inner in value]
    return value


def test_a_state_of_another_lora_is_refused():
    one, _ = begun({})
    other, _ = begun({"dim": 2})
    with pytest.raises(SettingError, match="or another dim"):
        other.load(one.state())


def test_a_state_of_another_kind_of_run_is_refused():
    one, _ = begun({})
    other, _ = begun({"burn_guard": False})
    with pytest.raises(SettingError, match="Continue it with the settings"):
        other.load(one.state())


def test_a_state_of_a_run_with_other_settings_is_refused_and_changes_nothing():
    """What differs is named, and the run is still one that has not begun."""
    one, adapters = begun({})
    with attached(adapters):
        one.step()
    other, own = begun({"warmup_percent": 50.0, "batch_size": 1})
    before = weights(own)
    with pytest.raises(SettingError, match="other settings: warmup percent, batch size"):
        other.load(one.state())
    assert other.done == 0
    assert all(torch.equal(a, b) for a, b in zip(before, weights(own), strict=True))


def test_the_run_with_everything_does_skip_steps_and_change_its_loss_scale():
    """Else it would prove nothing of them."""
    one, adapters = begun(RUNS[EVERYTHING])
    with attached(adapters):
        result = one.run()
    assert 2 <= result.skipped_steps <= 15
    assert one.training_step.loss_scale.value != 2.0**14


class NoFolder:
    """A mock of a run's folder, which is written to on the way to what is tested."""

    rescued = None

    def write_lora(self, name, tensors, metadata):
        return True

    def drop_lora(self, name):
        pass


def test_what_was_recorded_goes_on_too():
    """The records, measurements and the best LoRA of the first process are there at the end of the second."""
    owners = [{"history": History(), "keeping": Keeping(NoFolder(), lambda record: {}, "best")} for _ in "ab"]

    def hear_with(number):
        return lambda event: [owner.hear(event) for owner in owners[number].values()]

    first, adapters = begun({}, hear_with(0))
    with attached(adapters), pytest.raises(ZeroDivisionError):
        states = []

        def stop_at_25():
            if first.done == 25:
                states.append(RunState(first.owners() | owners[0]).state())
                raise ZeroDivisionError
            return False

        first.control.wants_to_finish = stop_at_25
        first.run()
    second, adapters = begun({}, hear_with(1))
    RunState(second.owners() | owners[1]).load(states[0])
    with attached(adapters):
        second.run()

    heard = []
    whole, adapters = begun({}, heard.append)
    with attached(adapters):
        whole.run()
    history = owners[1]["history"]
    assert [record.loss for record in history.records] == [
        event.loss for event in heard if isinstance(event, StepRecord)
    ]
    assert [loss.step for loss in history.heldout] == [0, 10, 20, 30, 40]
    (finished,) = [event for event in heard if isinstance(event, Finished)]
    assert not [event for event in heard if isinstance(event, Unfinished)]
    assert owners[1]["keeping"].best is not None
    assert history.records[-1].step == finished.result.steps == STEPS
