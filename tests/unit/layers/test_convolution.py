"""A convolution as a product computes what PyTorch's own does."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.layers import convolution
from comfyui_dadapt_lora.trainer.layers.convolution import (
    LARGE_WEIGHT,
    MOST_POSITIONS,
    convolution_as_product,
    is_faster_as_product,
    quick_convolution,
)
from torch import Tensor, nn

LAYERS = {
    "kernel 3": lambda: nn.Conv2d(6, 5, 3, padding=1),
    "kernel 1": lambda: nn.Conv2d(6, 5, 1),
    "halving": lambda: nn.Conv2d(6, 5, 3, stride=2, padding=1),
    "no bias": lambda: nn.Conv2d(6, 5, 3, padding=1, bias=False),
    "kernel, stride, padding, dilation of two sizes": lambda: nn.Conv2d(
        6, 5, (3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 3)
    ),
}


def output_and_gradient(forward, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    output = forward(x)
    output.square().sum().backward()
    return output.detach(), x.grad


def frozen(layer: nn.Module) -> nn.Module:
    return layer.requires_grad_(False)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_output_and_gradient_are_those_of_pytorch(make, batch):
    torch.manual_seed(0)
    layer = frozen(make()).double()
    x = torch.randn(batch, 6, 8, 7, dtype=torch.float64)
    for ours, theirs in zip(
        output_and_gradient(lambda x: convolution_as_product(layer, x), x),
        output_and_gradient(layer, x),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_bias_of_fp32_does_not_make_a_bf16_output_fp32():
    torch.manual_seed(0)
    layer = frozen(nn.Conv2d(6, 5, 3, padding=1))
    x = torch.randn(1, 6, 4, 4)
    exact = layer(x)
    layer.weight.data = layer.weight.data.bfloat16()
    output = convolution_as_product(layer, x.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "bytes_of_weight, batch, size, stride, faster",
    [
        (LARGE_WEIGHT, 1, 8, 1, True),
        (LARGE_WEIGHT - 4, 1, 8, 1, False),
        (LARGE_WEIGHT, 1, 9, 1, False),
        (LARGE_WEIGHT, 2, 8, 1, False),
        (LARGE_WEIGHT, 4, 8, 2, True),
    ],
)
def test_taken_for_a_large_weight_at_few_output_positions(bytes_of_weight, batch, size, stride, faster):
    assert MOST_POSITIONS == 64
    layer = nn.Conv2d(1, bytes_of_weight // 4, 1, stride=stride, bias=False, device="meta")
    # on the CPU, but without the memory
    layer.weight = nn.Parameter(torch.empty(1).expand(layer.weight.shape), requires_grad=False)
    assert is_faster_as_product(layer, torch.empty(batch, 1, size, size)) is faster


class Counted(nn.Conv2d):
    """Counts its calls, so that a matrix product in its place would show."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


@pytest.mark.parametrize(
    "options", [{"groups": 2}, {"padding_mode": "circular"}, {"padding": "same"}], ids=str
)
def test_what_the_product_does_not_know_is_left_alone(options, monkeypatch):
    monkeypatch.setattr(convolution, "LARGE_WEIGHT", 0)
    unusual = Counted(6, 4, 3, **{"padding": 1} | options)
    plain = Counted(6, 4, 3, padding=1)
    for layer in (unusual, plain):
        quick_convolution(layer, layer.forward)(torch.randn(1, 6, 4, 4))
    assert (unusual.calls, plain.calls) == (1, 0)
