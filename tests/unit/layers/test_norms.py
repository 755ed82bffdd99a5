"""A network that writes over what its norms have read gets the gradients of one that does not."""

from contextlib import ExitStack

import pytest
import torch
from comfyui_dadapt_lora.trainer.layers.checkpointing import checkpointed
from comfyui_dadapt_lora.trainer.layers.norms import norm_inputs_copied
from torch import Tensor, nn

WIDTH = 8


class RMSNorm(nn.Module):
    """Of its own, as several of ComfyUI's networks have it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    """Two residual branches, as in the blocks of ComfyUI's Flux: `in_place`, or the same as a function."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.first_norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.attention = nn.Linear(WIDTH, WIDTH)
        self.second_norm = RMSNorm()
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        if not self.in_place:
            x = x + self.attention(self.first_norm(x)).tanh() * gate
            return x + self.mlp(self.second_norm(x=x)).tanh() * gate
        x += self.attention(self.first_norm(x)).tanh() * gate
        x += self.mlp(self.second_norm(x=x)).tanh() * gate
        return x


def network(in_place: bool) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList([nn.Linear(WIDTH, WIDTH), Block(in_place), Block(in_place)])


def gradients(in_place: bool, copied: bool = False, checkpoint: bool = False) -> Tensor:
    first, *blocks = layers = network(in_place)
    with ExitStack() as stack:
        stack.enter_context(norm_inputs_copied(layers.modules() if copied else []))
        stack.enter_context(checkpointed(blocks if checkpoint else []))
        x = first(torch.linspace(-1, 1, 3 * WIDTH).view(3, WIDTH))
        for block in blocks:
            x = block(x, torch.tensor(0.5))
        (x * torch.linspace(-1, 1, x.numel()).view(x.shape)).sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in layers.parameters()])


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_are_those_of_the_same_network_without_writing_over(checkpoint):
    expected = gradients(in_place=False)
    found = gradients(in_place=True, copied=True, checkpoint=checkpoint)
    assert (found - expected).norm() < 1e-6 * expected.norm()


def test_without_copies_pytorch_refuses():
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(in_place=True)


def test_without_copies_checkpointing_hides_it_and_the_gradients_are_wrong():
    """Which is what the copies are for: copies of the blocks' inputs do not help."""
    expected = gradients(in_place=False)
    found = gradients(in_place=True, checkpoint=True)
    assert (found - expected).norm() > 0.01 * expected.norm()


def copies(x: Tensor, norm: nn.Module) -> bool:
    """Whether the norm, which shows what it gets, got another tensor than x."""
    norm.forward = lambda x: x
    return norm(x) is not x


def test_only_norms_get_a_copy_and_only_where_gradients_are_computed():
    norm, other, x = nn.GroupNorm(2, 4), nn.Identity(), torch.zeros(1, 4)
    with norm_inputs_copied([norm, other]):
        assert copies(x, norm) and not copies(x, other)
        with torch.no_grad():
            assert not copies(x, norm)
    assert not copies(x, norm)


def test_the_hooks_are_gone_after_an_error():
    norm = nn.LayerNorm(4)
    with pytest.raises(ZeroDivisionError), norm_inputs_copied([norm]):
        raise ZeroDivisionError
    assert not norm._forward_pre_hooks
