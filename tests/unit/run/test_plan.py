"""What a run is going to do follows from its settings."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.data.order import Order
from comfyui_dadapt_lora.trainer.run.plan import measured_steps, total_steps
from comfyui_dadapt_lora.trainer.settings.run import RunConfig


def test_epochs_count_every_picture_with_its_repeats():
    order = Order(
        [
            LatentPicture(torch.zeros(4, 4, 4), "red", repeats=3),
            LatentPicture(torch.zeros(4, 4, 6), "blue", repeats=2),
        ],
        batch_size=2,
        seed=0,
    )
    assert total_steps(RunConfig(duration=5, duration_unit="epochs", batch_size=2), order) == 5 * (2 + 1)
    assert total_steps(RunConfig(duration=5, duration_unit="steps", batch_size=2), order) == 5


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
