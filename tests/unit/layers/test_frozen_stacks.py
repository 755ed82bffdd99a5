"""Frozen layers one after the other give the gradients of plain autograd, in whatever form their inputs come.

Autograd saves a weight in the form that the product needed: where the input is not contiguous, as a view that
is expanded to the batch. So the layers here get slices, transposed and expanded tensors of 2 to 5 dimensions.
"""

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from comfyui_dadapt_lora.trainer.layers import frozen as frozen_layers
from comfyui_dadapt_lora.trainer.layers.checkpointing import checkpointed
from comfyui_dadapt_lora.trainer.layers.frozen import save_memory
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

STACKS = 60  # random ones
LENGTH = 12  # of each
MOST_NUMBERS = 5000  # in one tensor
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Viewed(nn.Module):
    """A view of its input, in another form."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.forward = view


class Linear(nn.Linear):
    """Casts its weight to its input's dtype, as ComfyUI's layers do."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Conv2d(nn.Conv2d):
    """Casts its weight to its input's dtype, as ComfyUI's layers do."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


def input_gradient(layers: Sequence[nn.Module], x: Tensor, autocast: bool) -> Tensor:
    """Of a loss that weighs each number of the output differently."""
    x = x.clone().requires_grad_()
    output = x
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        for layer in layers:
            output = layer(output)
    (output.float() * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    return x.grad


def error(layers: Sequence[nn.Module], x: Tensor, autocast: bool = True) -> float:
    """Of the gradient when little is saved, over its size."""
    plain = input_gradient(layers, x, autocast)
    with save_memory(layers):
        saving = input_gradient(layers, x, autocast)
    assert plain.isfinite().all() and plain.abs().sum() > 0
    return ((saving - plain).norm() / plain.norm()).item()


def slices_between(dtype: torch.dtype) -> list[nn.Module]:
    """As attention takes the picture's tokens out of those of text and picture."""
    torch.manual_seed(0)
    layers = [Linear(8, 8).to(dtype).requires_grad_(False) for _ in range(3)]
    return [layers[0], Viewed(lambda x: x[:, 4:]), layers[1], Viewed(lambda x: x[:, 4:]), layers[2]]


@pytest.mark.parametrize(
    "stored, autocast", [(torch.float32, True), (torch.float16, True), (torch.float16, False)]
)
def test_slices_between_layers_change_no_gradient(stored, autocast):
    assert error(slices_between(stored), torch.randn(3, 16, 8), autocast) == 0


def test_of_slices_no_weight_is_saved(monkeypatch):
    """Neither as it is nor expanded: only what is in memory in any case, and how it is seen."""
    kept = []

    def watched(pack, unpack):
        return saved_tensors_hooks(lambda tensor: kept.append(pack(tensor)) or kept[-1], unpack)

    monkeypatch.setattr(frozen_layers, "saved_tensors_hooks", watched)
    layers = slices_between(torch.float32)
    with save_memory(layers):
        input_gradient(layers, torch.randn(3, 16, 8), autocast=True)
    assert {tuple(saved.size) for saved in kept} == {(8, 8), (3, 8, 8)}


def random_stack(draw: random.Random) -> tuple[list[nn.Module], Tensor]:
    """Layers and views in random order, and what they begin with. `shape` is what the next one gets."""
    shape = [draw.randint(2, 5) for _ in range(draw.choice([2, 3, 4, 4, 4, 5]))]
    x = torch.randn(shape)
    layers: list[nn.Module] = []
    probe = torch.empty(shape)
    while len(layers) < LENGTH:
        layer = draw.choice([a_linear, a_convolution, a_view])(draw, probe)
        if layer is None:
            continue
        output = layer.float()(probe)
        if 0 < output.numel() <= MOST_NUMBERS:
            layers.append(layer)
            probe = output.detach()
    return [layer.to(draw.choice(DTYPES)).requires_grad_(False) for layer in layers], x


def a_linear(draw: random.Random, x: Tensor) -> nn.Module:
    return Linear(x.shape[-1], draw.randint(1, 9))


def a_convolution(draw: random.Random, x: Tensor) -> nn.Module | None:
    if x.dim() != 4:
        return None
    kernel, channels = draw.choice([1, 3]), draw.randint(1, 9)
    return Conv2d(x.shape[1], channels, kernel, draw.randint(1, 2), kernel // 2)


def a_view(draw: random.Random, x: Tensor) -> nn.Module | None:
    one, other = draw.randrange(x.dim()), draw.randrange(x.dim())
    views = {
        "transposed": lambda x: x.transpose(one, other),
        "sliced": lambda x: x.narrow(one, 1, x.shape[one] - 1),
        "every second": lambda x: x[..., ::2],
        "unsqueezed": lambda x: x.unsqueeze(one),
        "expanded": lambda x: x[None].expand(3, *x.shape),
        "flattened": lambda x: x.flatten(0, 1),
        "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    }
    name = draw.choice(list(views))
    grows, shrinks, of_four = name in ("unsqueezed", "expanded"), name == "flattened", name == "channels last"
    if (grows and x.dim() == 5) or (shrinks and x.dim() == 2) or (of_four and x.dim() != 4):
        return None
    return Viewed(views[name])


@pytest.mark.parametrize("autocast", [True, False])
def test_random_stacks_have_the_gradients_of_plain_autograd_bit_for_bit(autocast):
    draw = random.Random(0)
    torch.manual_seed(0)
    kinds = set()
    for number in range(STACKS):
        layers, x = random_stack(draw)
        kinds |= {type(layer) for layer in layers}
        assert error(layers, x, autocast) == 0, f"stack {number}: {layers}"
    assert kinds == {Linear, Conv2d, Viewed}


def test_a_checkpointed_stack_has_the_same_gradient():
    """Its blocks use the scratch memory for the second time in the midst of the backward pass."""
    blocks = [nn.Sequential(*slices_between(torch.float16)) for _ in range(2)]
    x, layers = torch.randn(3, 32, 8), [layer for block in blocks for layer in block]
    plain = input_gradient(blocks, x, autocast=True)
    with save_memory(layers), checkpointed(blocks):
        assert torch.equal(input_gradient(blocks, x, autocast=True), plain)
