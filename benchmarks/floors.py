"""How fast a training step could be on this machine.

Its floor is the longer of two times: its floating-point operations at the rate of a large matrix product, and
the bytes of its weights at the rate of a large copy. Operations are counted on the meta device, where shapes
are computed and nothing else.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

TRIES = 10
SMALLEST_SIDE = 256
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
LONG = 0.1  # seconds of one product
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**31}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


# operations -------------------------------------------------------------------------------------------------


def adapted_flops(module: nn.Module, inputs: Mapping[str, Any], adapted: Collection[str], rank: int) -> int:
    """FLOPs of one forward and backward pass with LoRAs as hooks.

    The backward pass has the gradients of activations, as far back as adapters need them, and those of the
    LoRAs.

    inputs: keyword arguments, meta tensors; those that require a gradient get one.
    adapted: names of linear layers and convolutions.
    """
    with _adapters(module, adapted, rank):
        return _flops(module, inputs, weights_need_gradients=False)


def merged_flops(module: nn.Module, inputs: Mapping[str, Any], rank: int) -> int:
    """FLOPs of one forward and backward pass in which every layer computes W + up @ down anew.

    That has gradients of W's size, and the products of up and down.
    """
    flops = _flops(module, inputs, weights_need_gradients=True)
    forward_and_both_gradients = 3
    return flops + forward_and_both_gradients * sum(
        2 * layer.weight.numel() * rank for layer in adaptable(module).values()
    )


def adaptable(module: nn.Module) -> dict[str, nn.Module]:
    """The linear layers and convolutions of a module, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}


def _flops(module: nn.Module, inputs: Mapping[str, Any], weights_need_gradients: bool) -> int:
    layers = {f"{name}.weight" for name in adaptable(module)}
    state = {
        name: torch.empty_like(value, device="meta").requires_grad_(weights_need_gradients and name in layers)
        for name, value in (*module.named_parameters(), *module.named_buffers())
    }
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = functional_call(module, state, kwargs=dict(inputs))
        (output[0] if isinstance(output, tuple) else output).sum().backward()
    return counter.get_total_flops()


@contextmanager
def _adapters(module: nn.Module, names: Collection[str], rank: int) -> Iterator[None]:
    layers = dict(module.named_modules())
    handles = [layers[name].register_forward_hook(_hook(layers[name].weight.shape, rank)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(shape: torch.Size, rank: int) -> Callable[..., Tensor]:
    """A hook that adds up (down x) to the output of a layer whose weight has this shape.

    down [rank, in, ...] has the layer's kernel, up [out, rank, ...] has kernel 1.
    """
    ones = [1] * (len(shape) - 2)
    down = torch.empty(rank, *shape[1:], device="meta", requires_grad=True)
    up = torch.empty(shape[0], rank, *ones, device="meta", requires_grad=True)

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            return output + F.conv2d(
                F.conv2d(inputs[0], down, None, layer.stride, layer.padding, layer.dilation), up
            )
        return output + F.linear(F.linear(inputs[0], down), up)

    return add


# what the machine reaches -----------------------------------------------------------------------------------


def matmul_rate(precision: str, device: str) -> float:
    """FLOP/s of a large matrix product, the best of some tries, with as many threads as torch takes.

    A CPU that only emulates a precision would need minutes for the largest one: the first that takes long is
    enough there.
    """
    side = SMALLEST_SIDE
    while True:
        a, b = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
        seconds = _best_seconds(lambda a=a, b=b: torch.mm(a, b), device)
        if side == MATRIX_SIDE[device] or seconds > LONG:
            return 2 * side**3 / seconds
        side *= 2


def bandwidth(device: str) -> float:
    """Bytes/s, read and written, of one large copy."""
    source = torch.ones(COPIED_BYTES[device] // 4, device=device)
    target = torch.zeros_like(source)
    return 2 * COPIED_BYTES[device] / _best_seconds(lambda: target.copy_(source), device)


def _best_seconds(run: Callable[[], Any], device: str) -> float:
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    best = float("inf")
    for _ in range(TRIES + 1):  # the first one warms up
        synchronize()
        start = time.perf_counter()
        run()
        synchronize()
        best = min(best, time.perf_counter() - start)
    return best
