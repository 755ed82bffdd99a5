"""Checkpointing changes what is saved for backward, not what is computed."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.layers.checkpointing import checkpointed
from torch import nn
from torch.autograd.graph import saved_tensors_hooks


class Block(nn.Module):
    """Writes over its input, as ComfyUI's text layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 32)
        self.second = nn.Linear(32, 8)
        self.calls = 0

    def forward(self, x, scale=None):
        self.calls += 1
        x += self.second(self.first(x.clone()).tanh()) * scale
        return x


@pytest.fixture
def blocks() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Block(), Block())


def gradients(blocks: nn.Sequential) -> list[torch.Tensor]:
    blocks.zero_grad()
    x = torch.linspace(-1, 1, 16).view(2, 8)
    for block in blocks:
        x = block(x, scale=torch.tensor(0.5))
    x.square().sum().backward()
    return [p.grad for p in blocks.parameters()]


def test_gradients_are_the_same_bit_for_bit_though_blocks_write_over_their_input(blocks):
    expected = gradients(blocks)
    with checkpointed(blocks):
        assert all(map(torch.equal, gradients(blocks), expected))


def test_each_block_is_computed_twice_in_a_step_and_once_in_a_measurement(blocks):
    with checkpointed(blocks):
        gradients(blocks)
        assert [block.calls for block in blocks] == [2, 2]
        with torch.no_grad():
            blocks[0](torch.zeros(2, 8), scale=1)
        assert blocks[0].calls == 3


def test_only_the_inputs_of_blocks_are_saved_for_backward(blocks):
    saved = []
    with checkpointed(blocks), saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        x = torch.zeros(2, 8).requires_grad_() * 1
        for block in blocks:
            x = block(x, scale=torch.tensor(0.5))
    assert torch.Size((2, 32)) not in saved  # what lies between the two layers of a block


def test_blocks_are_their_own_again_after_an_error(blocks):
    blocks[1].forward = lambda x, scale: x
    own = vars(blocks[1])["forward"]
    with pytest.raises(ZeroDivisionError), checkpointed(blocks):
        raise ZeroDivisionError
    assert "forward" not in vars(blocks[0]) and vars(blocks[1])["forward"] is own
