"""Noise levels: the target of the raw output against what each kind of network is defined to predict."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.objective.levels import Levels

SIGMAS = torch.tensor([1e-3, 0.03, 0.5, 0.9], dtype=torch.float64)
ONES, ZEROS = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
VARIANCE = 1 + SIGMAS**2

# By name: the levels, and what the network's output should be for latents x and noise e.
KINDS = {
    # Ho et al. 2020, equation 12
    "eps": (Levels(SIGMAS, ONES, SIGMAS, ONES, -SIGMAS), lambda x, e, s: e),
    # Salimans & Ho 2022, appendix D: v = alpha e - sigma x, here over noised latents of variance 1 + s^2
    "v": (
        Levels(SIGMAS, ONES, SIGMAS, 1 / VARIANCE, -SIGMAS / VARIANCE.sqrt()),
        lambda x, e, s: (e - s * x) / (1 + s**2).sqrt(),
    ),
    # Liu et al. 2022, equation 1
    "flow": (Levels(SIGMAS, 1 - SIGMAS, SIGMAS, ONES, -SIGMAS), lambda x, e, s: e - x),
    "picture": (Levels(SIGMAS, ONES, SIGMAS, ZEROS, ONES), lambda x, e, s: x),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (4, 3, 1, 5, 5)])
def test_target_of_each_kind_of_network(kind, shape):
    """In fp32, also at little noise: a difference of noised latents would be off by 1e-4 there."""
    levels, expected = KINDS[kind]
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    sigmas = SIGMAS.view(-1, *[1] * (len(shape) - 1))
    got = levels.target(latents, noise)
    assert got.dtype == torch.float32
    assert torch.allclose(
        got.double(), expected(latents.double(), noise.double(), sigmas), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_gives_the_latents_back(kind):
    """latents = of_noised * noised + slope * target, by which ComfyUI makes a picture of an output."""
    levels, _ = KINDS[kind]
    latents, noise = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noised, target = levels.noised(latents, noise), levels.target(latents, noise)
    again = levels.of_noised[:, None] * noised + levels.slope[:, None] * target
    assert torch.allclose(again, latents, rtol=1e-10, atol=1e-12)


def test_noise_prediction_is_trained_on_the_noise_itself_bit_for_bit():
    levels, _ = KINDS["eps"]
    latents, noise = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(levels.target(latents, noise), noise)


def test_signal_over_noise():
    assert torch.allclose(KINDS["v"][0].snr, SIGMAS**-2)
    assert torch.allclose(KINDS["flow"][0].snr, ((1 - SIGMAS) / SIGMAS) ** 2)
