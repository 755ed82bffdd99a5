"""Distances between output and target, against scipy's and torch's."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.objective.loss import Distance
from comfyui_dadapt_lora.trainer.settings.objective import HUBER, MSE, SMOOTH_L1
from scipy import special

SHAPE = (3, 4, 5, 6)


def pair(scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(SHAPE, generator=generator, dtype=dtype) * scale for _ in range(2))


@pytest.mark.parametrize("c", [0.01, 0.1, 2.0])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
def test_huber_and_smooth_l1_are_the_pseudo_huber_loss_in_two_scales(c, scale):
    """scipy has it as c^2 (sqrt(1 + (d / c)^2) - 1); sd-scripts takes it times 2, and times 2 / c."""
    output, target = pair(scale, torch.float64)
    difference = (output - target).flatten(1).numpy()
    reference = torch.from_numpy(special.pseudo_huber(c, difference)).mean(1)
    got = {kind: Distance(kind, c)(output, target) for kind in (HUBER, SMOOTH_L1)}
    # scipy's loses digits of small errors in its difference: 1e-16 (c / d)^2
    tolerance = {"rtol": max(1e-12, 1e-15 * (c / scale) ** 2), "atol": 0}
    assert torch.allclose(got[HUBER], 2 * reference, **tolerance)
    assert torch.allclose(got[SMOOTH_L1], 2 / c * reference, **tolerance)


def test_in_fp32_small_errors_have_all_their_digits():
    """sqrt(d^2 + c^2) - c as it is written would have lost them: huber is d^2 there."""
    output, target = pair(1e-4)
    expected = ((output.double() - target.double()) ** 2).flatten(1).mean(1)
    assert torch.allclose(Distance(HUBER, 0.1)(output, target).double(), expected, rtol=1e-5)


def test_large_errors_count_by_their_size():
    output, target = pair(1e4, torch.float64)
    expected = 2 * (output - target).abs().flatten(1).mean(1)
    assert torch.allclose(Distance(SMOOTH_L1, 0.1)(output, target), expected, rtol=1e-3)


def test_the_pull_of_an_error_is_limited():
    """The gradient of one value: 2 d / n for the squared error, at most 2 c / n and 2 / n for the others."""
    for kind, most in ((HUBER, 0.2), (SMOOTH_L1, 2.0)):
        output = torch.tensor([[1e-3, 0.1, 1e3]], dtype=torch.float64, requires_grad=True)
        Distance(kind, 0.1)(output, torch.zeros_like(output)).sum().backward()
        expected = most * output.detach() / (output.detach() ** 2 + 0.01).sqrt() / 3
        assert torch.allclose(output.grad, expected, rtol=1e-12)
        assert output.grad.max() <= most / 3


@pytest.mark.parametrize("kind", [MSE, HUBER, SMOOTH_L1])
def test_each_picture_has_its_own_loss_and_no_error_is_none(kind):
    output, target = pair()
    distance = Distance(kind)
    together = distance(output, target)
    assert together.shape == (3,)
    alone = torch.cat([distance(output[n : n + 1], target[n : n + 1]) for n in range(3)])
    assert torch.allclose(together, alone, rtol=1e-6)
    assert torch.equal(distance(output, output), torch.zeros(3))


def test_mse_is_torchs_bit_for_bit():
    output, target = pair()
    expected = torch.nn.functional.mse_loss(output, target, reduction="none").flatten(1).mean(1)
    assert torch.equal(Distance()(output, target), expected)
