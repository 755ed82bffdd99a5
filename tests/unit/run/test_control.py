"""A run goes on, pauses, finishes early or is cancelled, as somebody asks."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.run.control import Asked, Control
from comfyui_dadapt_lora.trainer.run.events import Finished, HeldoutLoss, StepRecord, Unfinished

from tests.unit.toy import ToyNetwork, adapters_of, of_kind, run, toy_grid, training, weights


class Cancelled(BaseException):
    """As ComfyUI's own in newer versions, which is no Exception."""


class Wishes(Control):
    """Answers by how many steps were done; counts the questions and the waits."""

    cancels = (Cancelled,)

    def __init__(self, at):
        self.at = at
        self.steps = 0
        self.asked = 0
        self.waits = 0

    def hear(self, event):
        self.steps += isinstance(event, StepRecord)

    def ask(self):
        self.asked += 1
        wish = self.at(self)
        if wish == "cancel":
            raise Cancelled
        return wish

    def wait(self):
        self.waits += 1


def controlled(at, steps=20, **settings):
    network = ToyNetwork()
    adapters = adapters_of(network)
    control = Wishes(at)
    events = []

    def hear(event):
        control.hear(event)
        events.append(event)

    with attached(adapters):
        one = training(network, adapters, steps=steps, tell=hear, control=control, **settings)
        try:
            result = one.run()
        except Cancelled:
            result = None
    return result, events, control, weights(adapters)


def test_a_wish_to_finish_ends_the_run_after_that_step_with_what_it_has():
    result, events, _, end = controlled(
        lambda control: Asked.FINISH if control.steps >= 7 else Asked.GO,
        heldout=toy_grid(ToyNetwork()),
    )
    assert (result.steps, result.planned_steps, result.last_step) == (7, 20, 7)
    (finished,) = of_kind(Finished, events)
    assert finished.lora.record.step == 7
    assert of_kind(HeldoutLoss, events)[-1].step == 7

    network = ToyNetwork()
    adapters = adapters_of(network)
    seen = []
    run(network, adapters, steps=20, on_step=lambda _: seen.append(weights(adapters)))
    assert all(torch.equal(a, b) for a, b in zip(end, seen[6], strict=True))


def test_a_wish_to_finish_before_the_first_step_still_gives_one_step():
    result, _, _, _ = controlled(lambda control: Asked.FINISH)
    assert result.steps == 1


def test_a_pause_waits_and_changes_nothing():
    paused, _, control, end = controlled(
        lambda control: Asked.PAUSE if control.steps == 5 and control.waits < 3 else Asked.GO
    )
    whole, _, _, reference = controlled(lambda control: Asked.GO)
    assert control.waits == 3
    assert paused.steps == whole.steps == 20
    assert all(torch.equal(a, b) for a, b in zip(end, reference, strict=True))


def test_a_cancel_tells_the_lora_until_then():
    result, events, _, end = controlled(lambda control: "cancel" if control.steps == 9 else Asked.GO)
    assert result is None
    (unfinished,) = of_kind(Unfinished, events)
    assert unfinished.cancelled and isinstance(unfinished.reason, Cancelled)
    assert unfinished.lora.record.step == 9
    down = unfinished.lora.tensors["unet_layer.lora_down.weight"]
    assert torch.equal(down.flatten(), end[0].flatten())


@pytest.mark.parametrize("when", [0, 10])
def test_a_cancel_is_heard_between_the_batches_of_a_measurement(when):
    """A grid of 64 samples in batches of 8: cancelled after its third, with nothing else asked in between."""
    asked = []

    def cancel_at_third(control):
        if control.steps == when:
            asked.append(control.asked)
        measuring = len(asked) > (3 if when == 0 else 4)
        return "cancel" if measuring else Asked.GO

    result, events, _, _ = controlled(
        cancel_at_third, heldout=toy_grid(ToyNetwork(), samples=64), measure_every=10, burn_guard=False
    )
    assert result is None
    assert [loss.step for loss in of_kind(HeldoutLoss, events)] == ([] if when == 0 else [0])


def test_an_error_is_told_as_none_of_a_cancel():
    class Broken(ToyNetwork):
        def predict(self, noised, levels, conditioning):
            raise RuntimeError("broken")

    network = Broken()
    events = []
    with pytest.raises(RuntimeError, match="broken"):
        training(network, adapters_of(network), tell=events.append, burn_guard=False).run()
    (unfinished,) = of_kind(Unfinished, events)
    assert not unfinished.cancelled and unfinished.lora is None


def test_a_listener_that_fails_at_the_end_does_not_hide_what_ended_the_run():
    class Broken(ToyNetwork):
        def predict(self, noised, levels, conditioning):
            raise RuntimeError("what ended the run")

    def hear(event):
        if isinstance(event, Unfinished):
            raise OSError("the disk is full")

    network = Broken()
    with pytest.raises(RuntimeError, match="what ended the run"):
        training(network, adapters_of(network), tell=hear, burn_guard=False).run()
