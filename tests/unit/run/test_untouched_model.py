"""A model that does not draw is told before the first step, whatever it predicts."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.objective.grid import LossGrid
from comfyui_dadapt_lora.trainer.objective.levels import Levels
from comfyui_dadapt_lora.trainer.run.events import Notice, StepRecord

from tests.unit.toy import ToyNetwork, adapters_of, of_kind, pictures, run


def eps(share):
    sigmas = (share / (1 - share)).sqrt()
    size = (1 + sigmas**2).sqrt()
    return Levels(sigmas, 1 / size, sigmas / size, size, -sigmas)


def v(share):
    sigmas = (share / (1 - share)).sqrt()
    size = (1 + sigmas**2).sqrt()
    return Levels(sigmas, 1 / size, sigmas / size, 1 / size, -sigmas / size)


def flow(share):
    return Levels(share, 1 - share, share, torch.ones_like(share), -share)


SQUARE = 1.5**2  # mean of the pictures' latents, which are flat
# of the targets: noise; a mixture of both, whose shares are as large as those of the other; their difference
NOTHING = {eps: 1.0, v: (1 + SQUARE) / 2, flow: 1 + SQUARE}
KNOWS = None
PREDICTIONS = pytest.mark.parametrize("levels", NOTHING, ids=lambda levels: levels.__name__)


class Drawing(ToyNetwork):
    """Its output is of so many times the target's size, and has nothing to do with the picture; or it knows
    that pictures are flat.
    """

    def __init__(self, levels, size):
        super().__init__()
        self.of_share, self.size = levels, size

    def levels(self, u):
        return self.of_share(((u.double() * self.steps).long() + 0.5) / self.steps)

    def predict(self, noised, levels, conditioning):
        output = super().predict(noised, levels, conditioning) * 0
        if self.size is KNOWS:
            return output + self._of_flat_pictures(noised, levels)
        other = torch.randn(noised.shape, generator=torch.Generator().manual_seed(7))
        return output + NOTHING[self.of_share] ** 0.5 * self.size * other

    def _of_flat_pictures(self, noised, levels):
        """The target by an estimate of the picture: the mean of its 16 pixels, nearer to zero with noise."""
        of_latents, of_noise, *shares = (
            x.float().view(-1, 1, 1, 1)
            for x in (levels.of_latents, levels.of_noise, levels.target_of_latents, levels.target_of_noise)
        )
        certainty = of_latents * SQUARE / (of_latents**2 * SQUARE + of_noise**2 / 16)
        latents = noised.mean((2, 3), keepdim=True) * certainty
        return shares[0] * latents + shares[1] * (noised - of_latents * latents) / of_noise


def notices(network, **settings):
    _, events = run(network, adapters_of(network), steps=1, **settings)
    first_step = events.index(of_kind(StepRecord, events)[0])
    return [event.text for event in of_kind(Notice, events[:first_step])]


@PREDICTIONS
def test_an_output_of_zeros_has_the_size_of_the_targets(levels):
    grid = LossGrid.draw(pictures(), torch.Generator().manual_seed(1), samples=64)
    assert grid.loss_of_nothing(Drawing(levels, 0.0)) == pytest.approx(NOTHING[levels], rel=0.1)
    assert grid.loss(Drawing(levels, 0.0)) == pytest.approx(NOTHING[levels], rel=0.1)


@PREDICTIONS
def test_nothing_is_told_of_a_model_that_knows_what_pictures_are_like(levels):
    """Here: that they are flat."""
    assert notices(Drawing(levels, KNOWS)) == []


@PREDICTIONS
@pytest.mark.parametrize("size", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("burn_guard", [True, False])
def test_an_output_that_has_nothing_to_do_with_the_picture_is_told(levels, size, burn_guard):
    """Weights in the wrong kind of fp8 give nothing, or far too much."""
    (said,) = notices(Drawing(levels, size), burn_guard=burn_guard)
    assert "a LoRA of this one is of no use" in said and "two of fp8" in said
