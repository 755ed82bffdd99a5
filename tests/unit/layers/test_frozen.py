"""A frozen layer keeps for backward no more than the gradient of its input needs, and gives the same
gradients.
"""

import pytest
import torch
from comfyui_dadapt_lora.trainer.layers import convolution
from comfyui_dadapt_lora.trainer.layers import frozen as frozen_layers
from comfyui_dadapt_lora.trainer.layers.frozen import lean_and_quick
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

LAYERS = {
    "linear": (lambda: nn.Linear(24, 16), (3, 7, 24)),
    "linear without bias": (lambda: nn.Linear(24, 16, bias=False), (3, 24)),
    "convolution": (lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1), (2, 6, 10, 8)),
    "convolution of kernel 1": (lambda: nn.Conv2d(6, 8, 1), (2, 6, 10, 8)),
    "input in the shape of the weight": (lambda: nn.Conv2d(6, 8, 3, padding=1), (8, 6, 3, 3)),
}


def frozen(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    return make().requires_grad_(False), torch.randn(shape)


def input_gradient(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        output = layer(x)
    output.float().square().sum().backward()
    return x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_the_same_bit_for_bit(name, dtype):
    layer, x = frozen(name)
    with lean_and_quick([layer]):
        lean = input_gradient(layer, x, dtype)
    assert torch.equal(lean, input_gradient(layer, x, dtype))


def kept(layers: list[nn.Module], x: Tensor, monkeypatch) -> int:
    """Bytes that are held on to after bf16 forward passes through each layer, of what autograd asked to keep
    beside the weights.
    """
    seen = {}
    weights = [layer.weight.data_ptr() for layer in layers]

    def look(saved: Tensor) -> None:
        if saved.data_ptr() in weights:
            return
        seen[saved.untyped_storage().data_ptr()] = StorageWeakRef(saved.untyped_storage()), saved.nbytes

    def keep(layer, shape, saved, original=frozen_layers._LeanLayer._keep):
        look(saved)
        return original(layer, shape, saved)

    monkeypatch.setattr(frozen_layers._LeanLayer, "_keep", keep)
    x = x.clone().requires_grad_()
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        saved_tensors_hooks(lambda t: look(t) or t, lambda t: t),
    ):
        graphs = [layer(x.clone()) for layer in layers]  # the graph holds on to a leaf
    del x
    assert all(graph.requires_grad for graph in graphs)
    return sum(size for storage, size in seen.values() if not storage.expired())


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "input in the shape of the weight"])
def test_of_many_layers_one_cast_weight_is_there_and_no_convolutions_input(name, monkeypatch):
    layers, x = [frozen(name)[0] for _ in range(3)], frozen(name)[1].bfloat16()
    one_weight = layers[0].weight.numel() * 2
    assert kept(layers, x, monkeypatch) >= 3 * one_weight
    with lean_and_quick(layers):
        assert kept(layers, x, monkeypatch) == one_weight


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_convolutions_are_products_where_that_is_faster(dtype, tolerance, monkeypatch):
    """The second one's weight, the smaller, is in the scratch memory when the first one's backward pass
    comes.
    """
    layers, x = (
        nn.Sequential(frozen("convolution")[0], nn.Conv2d(8, 5, 3).requires_grad_(False)),
        frozen("convolution")[1],
    )
    exact = input_gradient(layers, x, torch.float32)
    monkeypatch.setattr(convolution, "LARGE_WEIGHT", 0)
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: pytest.fail("computed as a convolution"))
    with lean_and_quick(layers):
        as_products = input_gradient(layers, x, dtype)
    torch.testing.assert_close(as_products, exact, rtol=0, atol=tolerance * exact.abs().max().item())


def test_layers_of_different_sizes_one_after_the_other():
    """The larger weight needs new scratch memory, after the smaller one was used in the forward pass and
    before it is in the backward.
    """
    torch.manual_seed(0)
    network, x = (
        nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 30), nn.Linear(30, 5)).requires_grad_(False),
        torch.randn(3, 4),
    )
    with lean_and_quick(network):
        lean = input_gradient(network, x, torch.bfloat16)
    assert torch.equal(lean, input_gradient(network, x, torch.bfloat16))


class Scaled(nn.Linear):
    """As the host's layers with weights in fp8, which have a scale beside them."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype) * 3, self.bias)


@pytest.mark.parametrize("change", ["trained", "patched by the host", "in fp8"])
def test_a_weight_that_is_not_simply_cast_is_left_alone(change):
    layer, x = frozen("linear")
    if change == "trained":
        layer.requires_grad_(True)
    elif change == "patched by the host":
        layer.weight_function = [lambda weight: weight]
    else:
        layer = Scaled(24, 16).requires_grad_(False)
        layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn)
    with lean_and_quick([layer]):
        assert "forward" not in vars(layer)
        lean = input_gradient(layer, x, torch.float32)
    assert torch.equal(lean, input_gradient(layer, x, torch.float32))


class Cancelled(BaseException):
    """The host's interrupt is a BaseException in newer versions; it is raised inside layers."""


@pytest.mark.parametrize("error", [RuntimeError, Cancelled])
def test_a_layer_is_as_it_was_after_an_error_inside_it(error):
    layer, x = frozen("linear")
    weight = layer.weight

    def raises(x):
        assert layer.weight.dtype == torch.bfloat16
        raise error

    layer.forward = raises
    with pytest.raises(error), torch.autocast("cpu", dtype=torch.bfloat16), lean_and_quick([layer]):
        layer(x)
    assert layer.weight is weight and layer.forward is raises
    assert (
        torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )  # there is no public question for it


def test_weights_of_fp16_computed_in_bf16_give_the_same_gradients_bit_for_bit():
    """On a CPU these are cast by way of fp32, which is exact."""
    layer, x = frozen("linear")
    layer.half()
    with lean_and_quick([layer]):
        lean = input_gradient(layer, x, torch.bfloat16)
    assert torch.equal(lean, input_gradient(layer, x, torch.bfloat16))


class CastsByItself(nn.Linear):
    """Stands for a host's layer, which casts its weight to its input's dtype; the real ones are in
    tests/host/test_gradients.py.
    """

    was_cast = False

    def __init__(self, inside: int = 24, outside: int = 16, dtype: torch.dtype = torch.float16) -> None:
        super().__init__(inside, outside)
        self.to(dtype).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.was_cast = self.weight.dtype != x.dtype
        return nn.functional.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_that_cast_by_themselves_find_their_weights_cast(dtype):
    """Of different sizes, the larger one later, so that they share the scratch memory in both passes."""
    torch.manual_seed(0)
    layers, x = (
        nn.Sequential(CastsByItself(), CastsByItself(16, 40), CastsByItself(40, 5)),
        torch.randn(3, 24),
    )
    plain = input_gradient(layers, x, dtype)
    assert all(layer.was_cast for layer in layers)
    with lean_and_quick(layers):
        lean = input_gradient(layers, x, dtype)
    assert not any(layer.was_cast for layer in layers)
    assert all(layer.weight.dtype == torch.float16 for layer in layers)
    assert torch.equal(lean, plain)


@pytest.mark.parametrize("weights, copies", [(torch.float16, 1), (torch.bfloat16, 0)])
def test_of_layers_that_cast_by_themselves_no_copy_is_kept(weights, copies, monkeypatch):
    """Also of weights in autocast's own dtype with an input in fp32: left to itself, such a layer casts them
    up, and autocast back down.
    """
    layers, x = [CastsByItself(dtype=weights) for _ in range(3)], torch.randn(3, 24)
    one_weight = layers[0].weight.numel() * 2
    assert kept(layers, x, monkeypatch) >= 3 * one_weight
    with lean_and_quick(layers):
        assert kept(layers, x, monkeypatch) == copies * one_weight
