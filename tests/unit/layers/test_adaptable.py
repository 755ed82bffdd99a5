"""Which layers have a LoRA, and of which shape, quantized weights among them."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.lora import lora_values, new_adapter
from comfyui_dadapt_lora.trainer.layers.adaptable import is_adaptable, weight_shape
from torch import Tensor, nn


class Quantized(nn.Module):
    """As ComfyUI's linear layer of mixed precision: no `nn.Linear`. Its weight is some packed bytes."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.in_features, self.out_features = inside, outside
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.uint8), requires_grad=False)

    def forward_comfy_cast_weights(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Packed(Tensor):
    """As ComfyUI-GGUF's, which says what shape its bytes stand for."""

    tensor_shape = torch.Size((5, 6, 3, 3))


def of_gguf() -> nn.Conv2d:
    layer = nn.Conv2d(6, 5, 3)
    layer.weight = nn.Parameter(torch.zeros(5, 34).as_subclass(Packed), requires_grad=False)
    return layer


def of_bytes() -> nn.Conv2d:
    layer = nn.Conv2d(6, 5, (3, 1))
    layer.weight = nn.Parameter(torch.zeros(9, dtype=torch.uint8), requires_grad=False)
    return layer


def widened() -> nn.Linear:
    """As ComfyUI's, after a LoRA that makes a layer wider was applied to it."""
    layer = nn.Linear(6, 5)
    layer.weight = nn.Parameter(torch.zeros(5, 12))
    return layer


LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (5, 6)),
    "convolution": (lambda: nn.Conv2d(6, 5, (3, 1)), (5, 6, 3, 1)),
    "in fp8": (lambda: nn.Linear(6, 5).to(torch.float8_e4m3fn), (5, 6)),
    "no nn.Linear": (lambda: Quantized(6, 5), (5, 6)),
    "packed": (of_gguf, (5, 6, 3, 3)),
    "of bytes": (of_bytes, (5, 6, 3, 1)),
    "widened": (widened, (5, 12)),
}


@pytest.mark.parametrize("make, shape", LAYERS.values(), ids=LAYERS)
def test_a_lora_has_the_shape_of_the_numbers(make, shape):
    layer, dim = make(), 2
    assert is_adaptable(layer) and weight_shape(layer) == shape
    adapter = new_adapter("a", "unet", layer, dim, torch.Generator(), torch.device("cpu"))
    assert adapter.down.shape == (dim, *shape[1:])
    assert adapter.up.shape == (shape[0], dim, *[1] * (len(shape) - 2))
    assert lora_values([layer, layer], dim) == 2 * (adapter.down.numel() + adapter.up.numel())


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(6, 4, 3, groups=2), nn.Conv1d(6, 4, 3), nn.LayerNorm(4), nn.Embedding(3, 4)], ids=str
)
def test_other_layers_have_none(layer):
    assert not is_adaptable(layer)
