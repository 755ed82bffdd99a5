"""Weights against the closed forms of the papers and of kohya's sd-scripts."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.objective.levels import Levels
from comfyui_dadapt_lora.trainer.objective.weighting import Weighting
from comfyui_dadapt_lora.trainer.settings.objective import DEBIASED, MIN_SNR

# DDPM's noise as SD has it, and its last step again with zero terminal SNR as ComfyUI has it
ALPHA_BAR = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
ALPHA_BAR = torch.cat((ALPHA_BAR[::50], torch.tensor([4.8973451890853435e-08], dtype=torch.float64)))
SNR = ALPHA_BAR / (1 - ALPHA_BAR)
SIGMA = SNR**-0.5
ONES, ZEROS = torch.ones_like(SIGMA), torch.zeros_like(SIGMA)
SHARE = torch.linspace(0.001, 0.999, 21, dtype=torch.float64)
DATA = 0.5  # EDM's sigma_data
SIZE = (SIGMA**2 + DATA**2).sqrt()

LEVELS = {
    "eps": Levels(SIGMA, ONES, SIGMA, ONES, -SIGMA),
    "v": Levels(SIGMA, ONES, SIGMA, ALPHA_BAR, -SIGMA * ALPHA_BAR.sqrt()),
    "edm": Levels(SIGMA, ONES, SIGMA, DATA**2 / SIZE**2, SIGMA * DATA / SIZE),
    "flow": Levels(SHARE, 1 - SHARE, SHARE, torch.ones_like(SHARE), -SHARE),
    "picture": Levels(SIGMA, ONES, SIGMA, ZEROS, ONES),
}
FLOW_SNR = ((1 - SHARE) / SHARE) ** 2


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_is_that_of_the_paper(gamma):
    """Hang et al. 2023, section 3.4, for the picture, noise and v; for EDM's output (Karras et al. 2022,
    table 1) and a flow from it: the picture's weight times the square of what the output is worth there.
    """
    limited = torch.minimum(SNR, torch.tensor(gamma))
    expected = {
        "picture": limited,
        "eps": limited / SNR,
        "v": limited / (SNR + 1),
        "edm": limited * (SIGMA * DATA) ** 2 / (SIGMA**2 + DATA**2),
        "flow": torch.minimum(FLOW_SNR, torch.tensor(gamma)) * SHARE**2,
    }
    for kind, levels in LEVELS.items():
        assert torch.allclose(Weighting(MIN_SNR, gamma).of(levels), expected[kind], rtol=1e-9, atol=0), kind


def test_debiased_is_that_of_the_paper():
    """Yu et al. 2023: 1 / sqrt(SNR) on the loss of predicted noise, which is sqrt(SNR) on the picture's."""
    weighting = Weighting(DEBIASED)
    assert torch.allclose(weighting.of(LEVELS["eps"]), 1 / SNR.sqrt(), rtol=1e-9, atol=0)
    assert torch.allclose(weighting.of(LEVELS["picture"]), SNR.sqrt(), rtol=1e-9, atol=0)
    assert torch.allclose(weighting.of(LEVELS["v"]), SNR.sqrt() / (SNR + 1), rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", [MIN_SNR, DEBIASED])
def test_one_error_of_the_picture_counts_the_same_whatever_the_network_predicts(kind):
    """An error of the picture is one of `slope` times that of the output."""
    counted = {
        name: Weighting(kind).of(LEVELS[name]) / LEVELS[name].slope ** 2
        for name in ("eps", "v", "edm", "picture")
    }
    assert all(torch.allclose(one, counted["picture"], rtol=1e-9, atol=0) for one in counted.values())


@pytest.mark.parametrize("kind", [MIN_SNR, DEBIASED])
@pytest.mark.parametrize("predicts", LEVELS)
def test_no_weight_is_infinite_or_missing_at_zero_terminal_snr(kind, predicts):
    weights = Weighting(kind).of(LEVELS[predicts])
    assert weights.isfinite().all() and (weights >= 0).all()
    assert weights.float().isfinite().all()


def test_without_weights_nothing_is_multiplied():
    assert Weighting().of(LEVELS["eps"]) is None
