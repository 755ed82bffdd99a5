"""A LoRA that burns is brought back, and one that does not is left alone."""

import itertools
import json
import math
from dataclasses import asdict

import pytest
import torch
from comfyui_dadapt_lora.trainer.errors import DivergedError
from comfyui_dadapt_lora.trainer.run.events import Finished, HeldoutLoss, Notice

from tests.unit.run.burning import BURNING, Brittle
from tests.unit.toy import ToyNetwork, adapters_of, measured, of_kind, run, toy_grid, weights


def test_a_lora_that_burns_goes_back_and_ends_better_than_untouched():
    network = Brittle()
    adapters = adapters_of(network)
    untouched = measured(network, adapters, toy_grid(network))
    result, events = run(network, adapters, steps=300, **BURNING)
    assert result.burns
    assert measured(network, adapters, toy_grid(network)) < untouched
    limits = [burn.limit for burn in result.burns]
    assert all(later <= earlier / 2 for earlier, later in itertools.pairwise(limits))
    assert limits[0] <= BURNING["d0"] / 2
    assert result.d_last <= limits[-1]
    told = [notice.text for notice in of_kind(Notice, events) if notice.step > 0]
    assert told[: len(limits)] == [burn.text for burn in result.burns]
    assert "went back to step 0" in result.burns[0].text


def test_without_the_guard_the_same_run_burns():
    """What the guard has to hold against: 15 steps in, the loss is far above the untouched model's."""
    network = Brittle()
    adapters = adapters_of(network)
    untouched = measured(network, adapters, toy_grid(network))
    result, _ = run(network, adapters, steps=15, burn_guard=False, **BURNING)
    assert result.burns == ()
    assert measured(network, adapters, toy_grid(network)) > 1.5 * untouched


def test_a_guard_that_finds_nothing_changes_nothing():
    """Bit for bit: its samples come from a stream of their own."""
    ends = []
    for guarded in (True, False):
        network = ToyNetwork()
        adapters = adapters_of(network)
        result, _ = run(network, adapters, steps=60, burn_guard=guarded)
        assert result.burns == ()
        ends.append(weights(adapters))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


class AlwaysWorse(ToyNetwork):
    """A network that every LoRA makes worse, however small: each measurement is twice the last."""

    def __init__(self):
        super().__init__()
        self.factor = 1.0

    def predict(self, noised, levels, conditioning):
        if not torch.is_grad_enabled():
            self.factor *= 2
            return super().predict(noised, levels, conditioning) + self.factor
        return super().predict(noised, levels, conditioning)


def test_a_lora_that_burns_however_small_d_is_ends_the_run_with_the_last_good_one():
    network = AlwaysWorse()
    adapters = adapters_of(network)
    before = weights(adapters)
    with pytest.raises(DivergedError, match=r"burnt 9 times.*as it was at step 0"):
        run(network, adapters, steps=2000)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(adapters), strict=True))


class NanOnceTrained(Brittle):
    """A burnt LoRA gives no numbers at all, also where it is measured."""

    def predict(self, noised, levels, conditioning):
        predicted = super().predict(noised, levels, conditioning)
        return torch.where(predicted.abs() < 40, predicted, math.nan)


def test_a_lora_that_overflows_is_brought_back_too_and_the_report_is_json():
    """Before the 21 steps without a number that end a run."""
    network = NanOnceTrained()
    adapters = adapters_of(network)
    result, events = run(network, adapters, steps=60, heldout=toy_grid(network), measure_every=1, **BURNING)
    assert result.burns and result.burns[0].loss is None
    assert "(loss of 4 fixed samples not finite," in result.burns[0].text
    losses = of_kind(HeldoutLoss, events)
    assert any(measured.loss is None for measured in losses)
    assert all(math.isfinite(loss.loss) for loss in losses if loss.loss is not None)
    assert losses[-1].loss is not None
    json.dumps([asdict(burn) for burn in result.burns] + [asdict(loss) for loss in losses], allow_nan=False)


def test_a_burn_that_leaves_nothing_of_the_run_is_an_error():
    """3 steps: nothing is measured before the end of so short a run."""
    network = Brittle()
    adapters = adapters_of(network)
    before = weights(adapters)
    with pytest.raises(DivergedError, match="burnt and went back to the model as it was before"):
        run(network, adapters, steps=3, **BURNING)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(adapters), strict=True))


class BrittleAtTheEnd(ToyNetwork):
    """The last look of the guard finds a burn; the looks before it find none."""

    def __init__(self, last_look):
        super().__init__()
        self.last_look = last_look
        self.looks = 0

    def predict(self, noised, levels, conditioning):
        predicted = super().predict(noised, levels, conditioning)
        if torch.is_grad_enabled():
            return predicted
        self.looks += 1
        return predicted + 100 if self.looks == self.last_look else predicted


def test_a_burn_at_the_end_outputs_and_tells_the_step_that_it_went_back_to():
    """30 steps, with looks before the first, and after 10, 20 and 30."""
    network = BrittleAtTheEnd(last_look=4)
    adapters = adapters_of(network)
    seen = []
    settings = {"steps": 30, "growth_rate": 1.0, "d0": 1e-3}
    result, events = run(network, adapters, on_step=lambda _: seen.append(weights(adapters)), **settings)
    assert [(burn.step, burn.back_to) for burn in result.burns] == [(30, 20)]
    assert (result.steps, result.last_step) == (30, 20)
    (finished,) = of_kind(Finished, events)
    assert finished.lora.record.step == 20
    assert all(torch.equal(a, b) for a, b in zip(seen[19], weights(adapters), strict=True))


class NeverFinite(ToyNetwork):
    """Gives no number where it is measured, and good ones where it trains."""

    def predict(self, noised, levels, conditioning):
        predicted = super().predict(noised, levels, conditioning)
        return predicted if torch.is_grad_enabled() else predicted * math.nan


def test_an_untouched_model_without_a_finite_loss_switches_the_guard_off_and_says_so():
    """Nothing can be compared with it: every look would be a burn, and the run go back to its start."""
    network = NeverFinite()
    adapters = adapters_of(network)
    result, events = run(network, adapters, steps=60)
    assert result.burns == () and result.last_step == 60
    (notice,) = [notice for notice in of_kind(Notice, events) if notice.step == 0]
    assert "the burn guard is off" in notice.text and "not finite" in notice.text
