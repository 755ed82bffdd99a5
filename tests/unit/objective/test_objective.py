"""The loss, and its measurement on held-out pictures."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.objective.grid import LossGrid
from comfyui_dadapt_lora.trainer.objective.loss import losses

from tests.unit.toy import CHANNELS, ToyNetwork


def mixed_pictures():
    generator = torch.Generator().manual_seed(0)
    shapes = {"red": (CHANNELS, 4, 4), "blue": (CHANNELS, 4, 8)}
    return [
        LatentPicture(torch.randn(shapes[caption], generator=generator), caption)
        for caption in ("red", "blue", "red")
    ]


def grid():
    return LossGrid.draw(mixed_pictures(), ToyNetwork.timesteps, torch.Generator().manual_seed(5), samples=12)


def test_loss_is_the_mean_squared_error_of_each_picture():
    """Against the formula written out for one picture."""
    network, generator = ToyNetwork(), torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(2, CHANNELS, 4, 4, generator=generator) for _ in range(2))
    timesteps = torch.tensor([3, 90])
    got = losses(network, latents, ["red", "blue"], noise, timesteps)
    for place, caption in enumerate(("red", "blue")):
        one = slice(place, place + 1)
        noised = network.noised(latents[one], noise[one], timesteps[one])
        predicted = network.predict(noised, timesteps[one], network.encode_text([caption]))
        assert got[place].item() == pytest.approx(
            ((predicted - noise[one]) ** 2).sum().item() / noise[one].numel(), rel=1e-6
        )


def test_held_out_loss_is_the_same_bit_for_bit_each_time():
    assert grid().loss(ToyNetwork()) == grid().loss(ToyNetwork())


def test_held_out_loss_does_not_depend_on_the_batch_size():
    """Also with pictures of different sizes, which cannot share a batch."""
    assert grid().loss(ToyNetwork(), batch_size=1) == pytest.approx(
        grid().loss(ToyNetwork(), batch_size=5), rel=1e-6
    )


def test_held_out_samples_cover_the_timesteps_evenly():
    one_of_each = LossGrid.draw(
        mixed_pictures() * 5, 1000, torch.Generator().manual_seed(0), samples=30
    ).timesteps
    assert sorted(one_of_each) == [int((place + 0.5) / 30 * 1000) for place in range(30)]


def test_measuring_needs_no_gradient():
    network = ToyNetwork()
    network.unet_layer.requires_grad_(True)
    grid().loss(network)
    assert network.unet_layer.weight.grad is None
