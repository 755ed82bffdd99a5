"""In what a run computes, and gradients too small for fp16."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.precision import LossScale, Precision, choose_precision, gradient_norm

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    "choice, weights, device, expected",
    [
        ("fp32", torch.float16, CUDA, torch.float32),
        ("bf16", torch.float32, CUDA, torch.bfloat16),
        ("auto", torch.float16, CUDA, torch.float16),
        ("auto", torch.bfloat16, CUDA, torch.bfloat16),
    ],
)
def test_auto_follows_the_weights(choice, weights, device, expected):
    assert choose_precision(choice, weights, device).dtype == expected


def test_fp16_on_a_cpu_is_refused_with_the_reason():
    with pytest.raises(SettingError, match="bf16 or fp32 on a CPU"):
        choose_precision("fp16", torch.float32, CPU)


def test_auto_on_a_cpu_never_takes_fp16():
    assert choose_precision("auto", torch.float16, CPU).dtype in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_small_gradient_survives_fp16_only_with_the_loss_scale(scaled):
    """A gradient of 1e-8 at an fp16 activation is zero without the scale, and exact to fp16 with it."""
    precision = Precision(torch.float16, CPU)
    scale = precision.loss_scale().value if scaled else 1.0
    weight = torch.ones(1, requires_grad=True)
    activation = weight.half()  # what autocast hands on
    (activation.float() * 1e-8 * scale).sum().backward()
    gradient = weight.grad / scale
    assert gradient.item() == (pytest.approx(1e-8, rel=1e-2) if scaled else 0.0)


def test_loss_scale_halves_when_it_overflows_and_grows_back():
    scale = LossScale(value=1024.0, patience=3, most=2048.0)
    scale.after_step(finite=False)
    assert scale.value == 512
    for expected in (512, 512, 1024, 1024, 1024, 2048, 2048, 2048, 2048):
        scale.after_step(finite=True)
        assert scale.value == expected


def test_other_precisions_have_no_scale():
    scale = Precision(torch.bfloat16, CPU).loss_scale()
    for finite in (True, False, True):
        scale.after_step(finite)
        assert scale.value == 1


def test_gradient_norm_is_over_all_tensors_and_not_finite_if_one_value_is_not():
    gradients = [torch.full((3,), 2.0), torch.full((2, 2), 1.0)]
    assert gradient_norm(gradients, CPU).item() == pytest.approx(4.0)
    gradients[1][0, 0] = float("inf")
    assert not gradient_norm(gradients, CPU).isfinite()


@pytest.mark.gpu
def test_gradient_norm_takes_gradients_on_several_devices():
    gradients = [torch.full((3,), 2.0), torch.full((2, 2), 1.0, device=CUDA)]
    assert gradient_norm(gradients, CUDA).item() == pytest.approx(4.0)
