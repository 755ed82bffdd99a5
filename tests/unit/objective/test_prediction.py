"""What a network predicts is told from numbers."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.objective.levels import Levels
from comfyui_dadapt_lora.trainer.objective.prediction import Prediction

SIGMAS = torch.logspace(-2, 1.2, 100, dtype=torch.float64)
ZERO_TERMINAL = torch.cat((SIGMAS, torch.tensor([4518.77], dtype=torch.float64)))
SHARES = torch.linspace(1e-4, 1 - 1e-9, 100, dtype=torch.float64)


def eps(s):
    return Levels(s, torch.ones_like(s), s, torch.ones_like(s), -s)


def v(s):
    return Levels(s, torch.ones_like(s), s, 1 / (1 + s**2), -s / (1 + s**2).sqrt())


def edm(s, data=0.5):
    size = (s**2 + data**2).sqrt()
    return Levels(s, torch.ones_like(s), s, data**2 / size**2, s * data / size)


def flow(s):
    return Levels(s, 1 - s, s, torch.ones_like(s), -s)


def flow_of_cosmos(s):
    """Noise over signal, and latents that are not made smaller."""
    t = s / (1 + s)
    return Levels(s, torch.ones_like(s), s, 1 - t, -t)


def picture(s):
    return Levels(s, torch.ones_like(s), s, torch.zeros_like(s), torch.ones_like(s))


def lcm(s):
    """ComfyUI's node for LCM: a mixture of the picture by noise prediction and of what came in."""
    skip = 0.25 / ((s * 10) ** 2 + 0.25)
    out = s * 10 / ((s * 10) ** 2 + 0.25).sqrt()
    return Levels(s, torch.ones_like(s), s, skip + out, -out * s)


def velocity_preserving(s):
    """v over latents that are made smaller, as most papers have them: it is v all the same."""
    alpha, sigma = 1 / (1 + s**2).sqrt(), s / (1 + s**2).sqrt()
    return Levels(s, alpha, sigma, alpha, -sigma)


@pytest.mark.parametrize(
    "levels, kind",
    [
        (eps(SIGMAS), "eps"),
        (v(SIGMAS), "v"),
        (velocity_preserving(SIGMAS), "v"),
        (edm(SIGMAS), "edm"),
        (edm(SIGMAS, 1.0), "edm"),
        (flow(SHARES), "flow"),
        (flow_of_cosmos(SIGMAS), "flow"),
        (picture(SIGMAS), "x0"),
        (lcm(SIGMAS), "other"),
    ],
)
def test_each_kind_is_known_by_its_numbers(levels, kind):
    assert Prediction.of(levels).kind == kind


@pytest.mark.parametrize("of", [eps, v])
def test_zero_terminal_snr_is_seen(of):
    assert Prediction.of(of(ZERO_TERMINAL)) == Prediction(of.__name__, zero_terminal_snr=True)
    assert not Prediction.of(of(SIGMAS)).zero_terminal_snr


def test_in_words():
    assert str(Prediction.of(v(ZERO_TERMINAL))) == "v with zero terminal SNR"
    assert str(Prediction.of(eps(SIGMAS))) == "noise (eps)"
    assert str(Prediction.of(flow(SHARES))) == "a flow"  # all flows have it
