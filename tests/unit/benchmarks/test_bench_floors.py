"""The FLOPs that floors are made of, against small modules that can be counted by hand."""

import pytest
import torch
from comfyui_dadapt_lora.benchmarks.floors import adaptable, adapted_flops, merged_flops
from comfyui_dadapt_lora.benchmarks.train import Work
from torch import nn

TOKENS = 4
INNER = 16
OUTER = 8
RANK = 2
PRODUCT = 2 * TOKENS * INNER * OUTER  # of either layer's weight, in either direction


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(OUTER, INNER)
        self.second = nn.Linear(INNER, OUTER)

    def forward(self, x):
        return self.second(self.first(x))


def x(requires_grad=False):
    return {"x": torch.empty(TOKENS, OUTER, device="meta", requires_grad=requires_grad)}


def lora(inside, outside, with_input):
    """FLOPs of a LoRA: down and up forward, then the gradients of up, of down's output and of down.

    with_input: the gradient of its input as well.
    """
    down = 2 * TOKENS * inside * RANK
    up = 2 * TOKENS * outside * RANK
    return (down + up) + (2 * up + down) + (down if with_input else 0)


def test_both_layers_adapted():
    """The first layer's input needs no gradient, so that nothing is computed for it."""
    wanted = (
        2 * PRODUCT + PRODUCT + lora(OUTER, INNER, with_input=False) + lora(INNER, OUTER, with_input=True)
    )
    assert adapted_flops(TwoLayers(), x(), ["first", "second"], RANK) == wanted


def test_no_gradient_goes_further_back_than_the_first_adapter():
    assert adapted_flops(TwoLayers(), x(), ["second"], RANK) == 2 * PRODUCT + lora(
        INNER, OUTER, with_input=False
    )


def test_an_input_that_trains_gets_its_gradient():
    """Text embeddings are such an input where the text encoder trains."""
    more = adapted_flops(TwoLayers(), x(True), ["second"], RANK) - adapted_flops(
        TwoLayers(), x(), ["second"], RANK
    )
    assert more == 2 * PRODUCT + 2 * TOKENS * INNER * RANK


def test_merged_weights_cost_a_gradient_of_their_size_and_three_products_of_up_and_down():
    wanted = 2 * PRODUCT + 2 * PRODUCT + PRODUCT + 3 * 2 * (2 * INNER * OUTER * RANK)
    assert merged_flops(TwoLayers(), x(), RANK) == wanted


def test_convolutions_are_adapted_with_their_own_kernel():
    """down has the layer's kernel of 3, up has 1."""
    convolution = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1))
    pixels = 5 * 5
    base = 2 * pixels * 9 * 4 * 8
    down = 2 * pixels * 9 * 4 * RANK
    up = 2 * pixels * RANK * 8
    inputs = {"input": torch.empty(1, 4, 5, 5, device="meta")}
    assert adapted_flops(convolution, inputs, ["0"], RANK) == base + 2 * down + 3 * up
    assert list(adaptable(convolution)) == ["0"]


def test_hooks_are_gone_after_counting():
    module = TwoLayers()
    adapted_flops(module, x(), ["first"], RANK)
    assert not any(layer._forward_hooks for layer in module.modules())


@pytest.mark.parametrize(("flops", "weight_bytes", "seconds"), [(100, 10, 10), (100, 1000, 20)])
def test_the_floor_is_whichever_takes_longer(flops, weight_bytes, seconds):
    assert Work(flops, weight_bytes).seconds(rate=10, bandwidth=50) == seconds
