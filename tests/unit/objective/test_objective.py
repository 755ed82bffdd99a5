"""The loss, and its measurement on held-out pictures."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.objective.grid import LossGrid
from comfyui_dadapt_lora.trainer.objective.loss import losses

from tests.unit.toy import CHANNELS, ToyNetwork, pictures


def mixed_pictures():
    generator = torch.Generator().manual_seed(0)
    shapes = {"red": (CHANNELS, 4, 4), "blue": (CHANNELS, 4, 8)}
    return [
        LatentPicture(torch.randn(shapes[caption], generator=generator), caption)
        for caption in ("red", "blue", "red")
    ]


def grid():
    return LossGrid.draw(mixed_pictures(), torch.Generator().manual_seed(5), samples=12)


def test_loss_is_the_mean_squared_error_of_each_picture():
    """Against the formula written out for one picture."""
    network, generator = ToyNetwork(), torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(2, CHANNELS, 4, 4, generator=generator) for _ in range(2))
    u = torch.tensor([0.03, 0.9])
    got = losses(network, pictures(), latents, noise, network.levels(u))
    for place, picture in enumerate(pictures()):
        one = slice(place, place + 1)
        levels = network.levels(u[one])
        noised = (latents[one] + levels.sigmas * noise[one]) / (1 + levels.sigmas**2).sqrt()
        predicted = network.predict(noised.float(), levels, network.encode([picture]))
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


def test_held_out_samples_cover_the_noise_levels_evenly():
    u = LossGrid.draw(mixed_pictures() * 5, torch.Generator().manual_seed(0), samples=30).u
    assert sorted(u) == [(place + 0.5) / 30 for place in range(30)]


def test_a_loss_is_of_latents_of_any_rank():
    """Those of videos and of some newer picture models have one more dimension."""
    network = FlatNetwork()
    generator = torch.Generator().manual_seed(0)
    for shape in [(CHANNELS, 4), (CHANNELS, 1, 4, 4)]:
        latents, noise = (torch.randn(2, *shape, generator=generator) for _ in range(2))
        got = losses(network, pictures(), latents, noise, network.levels(torch.tensor([0.2, 0.7])))
        assert torch.allclose(got, (noise**2).flatten(1).mean(1), rtol=1e-5)


class FlatNetwork(ToyNetwork):
    """Takes any shape, and predicts no noise."""

    def predict(self, noised, levels, conditioning):
        return torch.zeros_like(noised)


def test_a_measurement_can_be_ended_before_each_batch():
    class Cancelled(Exception):
        pass

    network = Counting()
    asked = []

    def ask():
        asked.append(network.calls)
        if len(asked) == 3:
            raise Cancelled

    drawn = LossGrid.draw(mixed_pictures()[::2], torch.Generator().manual_seed(5), samples=12)
    with pytest.raises(Cancelled):
        drawn.loss(network, batch_size=2, before_batch=ask)
    assert asked == [0, 1, 2]


class Counting(ToyNetwork):
    """Counts forward passes."""

    calls = 0

    def predict(self, noised, levels, conditioning):
        self.calls += 1
        return super().predict(noised, levels, conditioning)


def test_measuring_needs_no_gradient():
    network = ToyNetwork()
    network.unet_layer.requires_grad_(True)
    grid().loss(network)
    assert network.unet_layer.weight.grad is None
