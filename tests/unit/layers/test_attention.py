"""Plain attention computes what PyTorch's own does."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.layers.attention import MOST_KEYS, is_faster_plain, plain_attention
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

CAUSAL = torch.full((7, 7), float("-inf")).triu_(1)


def q_k_v(dtype: torch.dtype, keys: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 3, 7, 5), (2, 3, keys, 5), (2, 3, keys, 5)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def output_and_gradients(attention, dtype: torch.dtype, mask: Tensor | None, keys: int = 7) -> list[Tensor]:
    inputs = q_k_v(dtype, keys)
    output = attention(*inputs, mask)
    output.square().sum().backward()
    return [output.detach(), *(x.grad for x in inputs)]


MASKS = {
    "no mask": None,
    "-inf": CAUSAL,
    "lowest number": CAUSAL.clamp(min=torch.finfo(torch.float32).min),
    "for each of the batch": torch.stack([CAUSAL, torch.zeros_like(CAUSAL)])[:, None],
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_output_and_gradients_are_those_of_pytorch(mask):
    mask = None if mask is None else mask.double()
    for ours, theirs in zip(
        output_and_gradients(plain_attention, torch.float64, mask),
        output_and_gradients(scaled_dot_product_attention, torch.float64, mask),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_other_keys_than_queries():
    for ours, theirs in zip(
        output_and_gradients(plain_attention, torch.float64, None, keys=11),
        output_and_gradients(scaled_dot_product_attention, torch.float64, None, keys=11),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "mask", [CAUSAL, CAUSAL.clamp(min=torch.finfo(torch.float32).min)], ids=["-inf", "lowest number"]
)
def test_in_bf16_a_mask_of_fp32_is_no_overflow_and_changes_no_dtype(mask):
    """The lowest number of fp32 is rounded to minus infinity in bf16."""
    exact = output_and_gradients(plain_attention, torch.float64, CAUSAL.double())
    for rounded, reference in zip(
        output_and_gradients(plain_attention, torch.bfloat16, mask), exact, strict=True
    ):
        assert rounded.dtype == torch.bfloat16
        torch.testing.assert_close(rounded.double(), reference, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "dtype, keys, plain",
    [
        (torch.bfloat16, 77, True),
        (torch.bfloat16, MOST_KEYS, True),
        (torch.bfloat16, MOST_KEYS + 1, False),
        (torch.float16, 77, False),
        (torch.float32, 77, False),
    ],
)
def test_taken_in_bf16_on_a_cpu_for_few_keys(dtype, keys, plain):
    q, k, _ = q_k_v(dtype, keys)
    assert is_faster_plain(q, k) is plain
