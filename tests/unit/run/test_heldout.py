"""When held-out pictures are measured, and where overtraining is said to begin."""

import pytest
from comfyui_dadapt_lora.trainer.run.events import HeldoutLoss
from comfyui_dadapt_lora.trainer.run.heldout import best_of, measured_steps, overtraining_began


def test_measured_every_n_steps_and_after_the_last():
    assert measured_steps(100, 1, 32, every=30) == {30, 60, 90, 100}
    assert measured_steps(100, 1, 32, every=1000) == {100}


@pytest.mark.parametrize(
    "steps, batch_size, samples", [(200, 2, 32), (1500, 1, 32), (1500, 4, 100), (5000, 1, 40)]
)
def test_auto_takes_about_a_fifth_of_the_time_at_most(steps, batch_size, samples):
    """A step costs three forward passes of its batch, a measurement one of its samples."""
    count = len(measured_steps(steps, batch_size, samples, every=0))
    assert 4 <= count <= 21
    assert count * samples <= 0.25 * 3 * batch_size * steps


def test_auto_measures_a_few_times_however_short_the_run():
    assert 3 <= len(measured_steps(10, 1, 100, every=0)) <= 5
    assert measured_steps(1, 1, 32, every=0) == {1}


def losses(*values):
    return [HeldoutLoss(10 * place, value) for place, value in enumerate(values)]


def test_overtraining_begins_at_the_lowest_loss_that_was_left_by_more_than_a_percent():
    assert overtraining_began(losses(0.10, 0.09, 0.08, 0.085, 0.0809)) == HeldoutLoss(20, 0.08)
    assert overtraining_began(losses(0.10, 0.09, 0.08, 0.085, 0.0807)) is None
    assert overtraining_began(losses(0.10, 0.09, 0.08)) is None


def test_the_untouched_model_is_not_the_best_lora():
    assert overtraining_began(losses(0.05, 0.09, 0.095)) == HeldoutLoss(10, 0.09)
    assert overtraining_began(losses(0.05)) is None
    assert overtraining_began([]) is None


def test_a_loss_that_is_not_finite_is_never_the_best():
    assert best_of(losses(0.10, None, 0.09, None)) == HeldoutLoss(20, 0.09)
    assert overtraining_began(losses(0.10, None, 0.09, None)) == HeldoutLoss(20, 0.09)
    assert best_of(losses(0.10, None)) is None
