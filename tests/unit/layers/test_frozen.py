"""A frozen layer saves for backward what the gradient of its input needs, and gives the same gradients."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.layers import convolution
from comfyui_dadapt_lora.trainer.layers import frozen as frozen_layers
from comfyui_dadapt_lora.trainer.layers.frozen import save_memory
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
    with save_memory([layer]):
        saving = input_gradient(layer, x, dtype)
    assert torch.equal(saving, input_gradient(layer, x, dtype))


def bytes_saved(layers: list[nn.Module], x: Tensor, monkeypatch) -> int:
    """Bytes that stay in memory for backward after a bf16 forward pass through each layer.

    Counts what autograd asked to save, apart from the layers' own weights.
    """
    seen = {}
    weights = [layer.weight.data_ptr() for layer in layers]

    def look(saved: Tensor) -> None:
        if saved.data_ptr() in weights:
            return
        storage = saved.untyped_storage()
        seen[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()

    def watched(pack, unpack):
        return saved_tensors_hooks(lambda tensor: look(tensor) or pack(tensor), unpack)

    monkeypatch.setattr(frozen_layers, "saved_tensors_hooks", watched)
    x = x.clone().requires_grad_()
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        saved_tensors_hooks(lambda t: look(t) or t, lambda t: t),
    ):
        graphs = [layer(x.clone()) for layer in layers]  # the graph holds on to a leaf
    del x
    assert all(graph.requires_grad for graph in graphs)
    return sum(size for storage, size in seen.values() if not storage.expired())


@pytest.mark.parametrize("name", LAYERS)
def test_of_many_layers_one_cast_weight_is_there_and_no_convolutions_input(name, monkeypatch):
    layers = [frozen(name)[0] for _ in range(3)]
    x = frozen(name)[1].bfloat16()
    one_weight = layers[0].weight.numel() * 2
    assert bytes_saved(layers, x, monkeypatch) >= 3 * one_weight
    with save_memory(layers):
        assert bytes_saved(layers, x, monkeypatch) == one_weight


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_convolutions_are_products_where_that_is_faster(dtype, tolerance, monkeypatch):
    """The second weight is the smaller, and in the scratch memory when the first one's backward begins."""
    first, x = frozen("convolution")
    layers = nn.Sequential(first, nn.Conv2d(8, 5, 3).requires_grad_(False))
    exact = input_gradient(layers, x, torch.float32)
    monkeypatch.setattr(convolution, "LARGE_WEIGHT", 0)
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: pytest.fail("computed as a convolution"))
    with save_memory(layers):
        as_products = input_gradient(layers, x, dtype)
    torch.testing.assert_close(as_products, exact, rtol=0, atol=tolerance * exact.abs().max().item())


def test_layers_of_different_sizes_one_after_the_other():
    """A larger weight needs new scratch memory between a smaller one's forward and backward pass."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 30), nn.Linear(30, 5)).requires_grad_(False)
    x = torch.randn(3, 4)
    with save_memory(network):
        saving = input_gradient(network, x, torch.bfloat16)
    assert torch.equal(saving, input_gradient(network, x, torch.bfloat16))


class Scaled(nn.Linear):
    """As ComfyUI's layers of scaled fp8, which have a scale beside the weight."""

    def __init__(self) -> None:
        super().__init__(24, 16)
        self.scale_weight = nn.Parameter(torch.tensor(3.01))

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale_weight.to(x.dtype), self.bias)


@pytest.mark.parametrize("change", ["trained", "patched by ComfyUI", "in scaled fp8", "of bytes", "packed"])
def test_a_weight_that_is_not_simply_cast_is_left_alone(change):
    layer = frozen("linear")[0]
    if change == "trained":
        layer.requires_grad_(True)
    elif change == "patched by ComfyUI":
        layer.weight_function = [lambda weight: weight]
    elif change == "in scaled fp8":
        layer = Scaled().requires_grad_(False)
        layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn)
    elif change == "of bytes":
        layer.weight = nn.Parameter(layer.weight.data.to(torch.int8), requires_grad=False)
    else:
        layer.weight = nn.Parameter(layer.weight.data.as_subclass(Packed), requires_grad=False)
    with save_memory([layer]):
        assert "forward" not in vars(layer)


class Packed(Tensor):
    """Stands for weights that are more than their numbers."""


class Cancelled(BaseException):
    """ComfyUI's interrupt is a BaseException in newer versions; it is raised inside layers."""


@pytest.mark.parametrize("error", [RuntimeError, Cancelled])
def test_a_layer_is_as_it_was_after_an_error_inside_it(error):
    layer, x = frozen("linear")
    weight = layer.weight

    def raises(x):
        assert layer.weight.dtype == torch.bfloat16
        raise error

    layer.forward = raises
    with pytest.raises(error), torch.autocast("cpu", dtype=torch.bfloat16), save_memory([layer]):
        layer(x)
    assert layer.weight is weight and layer.forward is raises
    # No hooks for saved tensors are left; PyTorch has no public function that tells.
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None


def test_weights_of_fp16_computed_in_bf16_give_the_same_gradients_bit_for_bit():
    """On a CPU these are cast by way of fp32, which is exact."""
    layer, x = frozen("linear")
    layer.half()
    with save_memory([layer]):
        saving = input_gradient(layer, x, torch.bfloat16)
    assert torch.equal(saving, input_gradient(layer, x, torch.bfloat16))


class Unlike(nn.Conv2d):
    """Needs the values of its input for backward, as a plain convolution does not."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * x)


class Multiplied(nn.Linear):
    """Uses another weight of the same shape."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, bias=False)
        self.half()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * 3)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 0), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize(
    "make, shape", [(lambda: Unlike(6, 8, 3), (2, 6, 10, 8)), (lambda: Multiplied(24, 16), (3, 24))]
)
def test_of_layers_that_compute_something_else_nothing_is_guessed(make, shape, dtype, tolerance):
    """In bf16 they get their input rounded, as ComfyUI's layers would round it."""
    torch.manual_seed(0)
    layer, x = make().requires_grad_(False), torch.randn(shape)
    plain = input_gradient(layer, x, dtype)
    with save_memory([layer]):
        saving = input_gradient(layer, x, dtype)
    torch.testing.assert_close(saving, plain, rtol=0, atol=tolerance * plain.abs().max().item())


def test_a_weight_that_is_replaced_inside_the_block_is_the_one_that_counts():
    """Loading and patching replace the parameters of ComfyUI's modules."""
    layer, x = frozen("linear")
    with save_memory([layer]):
        layer.weight = nn.Parameter(layer.weight * 2, requires_grad=False)
        saving = input_gradient(layer, x, torch.bfloat16)
    assert torch.equal(saving, input_gradient(layer, x, torch.bfloat16))


class CastsByItself(nn.Linear):
    """Casts its weight to its input's dtype, as ComfyUI's layers do.

    tests/host/test_gradients.py has the real ones.
    """

    was_cast = False

    def __init__(self, inside: int = 24, outside: int = 16, dtype: torch.dtype = torch.float16) -> None:
        super().__init__(inside, outside)
        self.to(dtype).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.was_cast = self.weight.dtype != x.dtype
        return nn.functional.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_layers_that_cast_by_themselves_find_their_weights_cast(stored, dtype):
    """Of different sizes, the larger one later, so that they share the scratch memory in both passes."""
    torch.manual_seed(0)
    sizes = (24, 16), (16, 40), (40, 5)
    layers = nn.Sequential(*(CastsByItself(*size, dtype=stored) for size in sizes))
    x = torch.randn(3, 24)
    plain = input_gradient(layers, x, dtype)
    assert all(layer.was_cast for layer in layers)
    with save_memory(layers):
        saving = input_gradient(layers, x, dtype)
    assert not any(layer.was_cast for layer in layers)
    assert all(layer.weight.dtype == stored for layer in layers)
    assert torch.equal(saving, plain)


class NoLinear(nn.Module):
    """As ComfyUI's linear layer of mixed precision, of which some have plain weights."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features = 24, 16
        self.weight = nn.Parameter(torch.randn(16, 24).half(), requires_grad=False)

    def forward_comfy_cast_weights(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype))

    forward = forward_comfy_cast_weights


def test_what_is_a_linear_layer_only_by_what_it_has_saves_little_too(monkeypatch):
    layers, x = [NoLinear() for _ in range(3)], torch.randn(3, 24)
    plain = input_gradient(layers[0], x, torch.float32)
    with save_memory(layers):
        assert torch.equal(input_gradient(layers[0], x, torch.float32), plain)
        assert bytes_saved(layers, x, monkeypatch) == layers[0].weight.nbytes


@pytest.mark.parametrize("weights, copies", [(torch.float16, 1), (torch.bfloat16, 0)])
def test_of_layers_that_cast_by_themselves_no_copy_is_saved(weights, copies, monkeypatch):
    """This holds for weights in autocast's own dtype with an input in fp32 as well.

    Left to itself, such a layer casts its weight up to fp32, and autocast casts it back down.
    """
    layers = [CastsByItself(dtype=weights) for _ in range(3)]
    x = torch.randn(3, 24)
    one_weight = layers[0].weight.numel() * 2
    assert bytes_saved(layers, x, monkeypatch) >= 3 * one_weight
    with save_memory(layers):
        assert bytes_saved(layers, x, monkeypatch) == copies * one_weight
