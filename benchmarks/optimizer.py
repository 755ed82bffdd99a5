"""What one optimizer step costs: ours, dadaptation's, and fused AdamW over separate tensors.

    python run.py bench optimizer [--rounds 15] [--blocks]

All work on the same LoRA of dim 16 for SD 1.5 (UNet and text encoder, 528 tensors, 9.4 M values), in one
thread, and take turns step by step; the figures are medians over the rounds. Operations and synchronizations
are counted for SDXL's UNet (1,444 tensors) too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..trainer.optim.dadapt import DAdaptAdam, reference_optimizer
from ..trainer.optim.flat_parameters import CPU_BLOCK

DIM = 16
OURS = "DAdaptAdam (ours)"
RECIPE = dict(weight_decay=0.02, decouple=True)
UNBLOCKED = 2**40  # values in a block: more than there are

Layers = list[tuple[int, int]]  # (out, in) of every layer that gets a LoRA
Step = Callable[[], Any]


# the shapes -------------------------------------------------------------------------------------------------


def sd15_layers() -> dict[str, Layers]:
    """(out, in) of the layers that a LoRA adapts: 192 of the UNet, 72 of the text encoder."""
    # The UNet's transformers on the way down, in the middle, and on the way up.
    widths = [320] * 2 + [640] * 2 + [1280] * 2 + [1280] + [1280] * 3 + [640] * 3 + [320] * 3
    unet = [layer for width in widths for layer in _spatial_transformer(width, depth=1, text=768)]
    text_encoder = 12 * (4 * [(768, 768)] + [(3072, 768), (768, 3072)])
    return {"unet": unet, "clip_l": text_encoder}


def sdxl_layers() -> dict[str, Layers]:
    """(out, in) of the 722 layers of the UNet that a LoRA adapts."""
    # Width and depth of the transformers on the way down, in the middle, and on the way up.
    stacks = 2 * [(640, 2)] + 2 * [(1280, 10)] + [(1280, 10)] + 3 * [(1280, 10)] + 3 * [(640, 2)]
    return {
        "unet": [layer for width, depth in stacks for layer in _spatial_transformer(width, depth, text=2048)]
    }


def _spatial_transformer(width: int, depth: int, text: int) -> Layers:
    self_attention = 4 * [(width, width)]
    cross_attention = [(width, width), (width, text), (width, text), (width, width)]
    feed_forward = [(8 * width, width), (width, 4 * width)]  # GEGLU
    return [(width, width)] + depth * (self_attention + cross_attention + feed_forward) + [(width, width)]


def lora_parameters(layers: Layers, device: str) -> list[Parameter]:
    """down (dim, in) and up (out, dim) of every layer, each a tensor of its own."""
    shapes = [shape for out, inside in layers for shape in ((DIM, inside), (out, DIM))]
    return [Parameter(0.02 * torch.randn(shape, device=device)) for shape in shapes]


def lora_groups(parts: dict[str, Layers], device: str = "cpu") -> list[dict[str, Any]]:
    """One param group per part, in which every parameter has a gradient."""
    torch.manual_seed(0)
    groups = [{"params": lora_parameters(layers, device)} for layers in parts.values()]
    for p in _parameters(groups):
        p.grad = 1e-3 * torch.randn_like(p)
    return groups


def _parameters(groups: Sequence[dict[str, Any]]) -> Iterator[Parameter]:
    return (p for group in groups for p in group["params"])


# time -------------------------------------------------------------------------------------------------------


def optimizers(device: str = "cpu") -> dict[str, torch.optim.Optimizer]:
    parts = sd15_layers()
    return {
        OURS: DAdaptAdam(lora_groups(parts, device), **RECIPE),
        "DAdaptAdam (ours, s in bf16)": DAdaptAdam(
            lora_groups(parts, device), s_dtype=torch.bfloat16, **RECIPE
        ),
        "dadaptation 3.2": reference_optimizer(lora_groups(parts, device), **RECIPE),
        "AdamW fused": torch.optim.AdamW(lora_groups(parts, device), lr=1e-6, weight_decay=0.02, fused=True),
    }


def milliseconds(contenders: dict[str, torch.optim.Optimizer], rounds: int) -> dict[str, list[float]]:
    """The times of every optimizer's steps, which take turns; the first two rounds are not counted."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 2):
        for name, optimizer in contenders.items():
            _turn_gradients(optimizer)
            elapsed = _timed(optimizer.step)
            if turn >= 2:
                times[name].append(1e3 * elapsed)
    return times


def _turn_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Turns the sign of all gradients.

    d stays small that way, so that no optimizer runs into overflow or denormal numbers.
    """
    torch._foreach_neg_([p.grad for p in _parameters(optimizer.param_groups)])


def _timed(step: Step) -> float:
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    synchronize()
    start = time.perf_counter()
    step()
    synchronize()
    return time.perf_counter() - start


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def block_sweep(rounds: int) -> dict[int, float]:
    """Milliseconds per step by block size. CPU_BLOCK was chosen with it."""
    sizes = [2**power for power in range(14, 22)] + [UNBLOCKED]
    contenders = {
        str(size): DAdaptAdam(lora_groups(sd15_layers()), block_size=size, **RECIPE) for size in sizes
    }
    return {int(size): statistics.median(times) for size, times in milliseconds(contenders, rounds).items()}


# counts -----------------------------------------------------------------------------------------------------


class CountOperations(TorchDispatchMode):
    """Counts every tensor operation below autograd by name.

    The mark that torch's profiler sets around every optimizer step is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace != "profiler":
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


class CountSynchronizations(TorchFunctionMode):
    """Counts every call that makes the CPU wait for a tensor's values."""

    READS = frozenset(
        {
            Tensor.item,
            Tensor.tolist,
            Tensor.cpu,
            Tensor.numpy,
            Tensor.__float__,
            Tensor.__int__,
            Tensor.__bool__,
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in self.READS
        return func(*args, **(kwargs or {}))


def count(step: Step) -> tuple[Counter[str], int]:
    """(tensor operations by name, synchronizations) of one step."""
    with CountSynchronizations() as reads, CountOperations() as operations:
        step()
    return operations.counts, reads.count


def step_counts(parts: dict[str, Layers], **settings: Any) -> tuple[int, int]:
    """(tensor operations, synchronizations) of one step of ours, with all parameters in one group."""
    everything = {"all": [layer for layers in parts.values() for layer in layers]}
    optimizer = DAdaptAdam(lora_groups(everything), block_size=UNBLOCKED, **RECIPE, **settings)
    optimizer.step()  # the first one copies the gradients into the optimizer's memory
    operations, reads = count(optimizer.step)
    return operations.total(), reads


def operations_by_layers() -> dict[str, list[int]]:
    """Tensor operations of one step for several numbers of layers, ours and dadaptation's.

    Ours takes whole groups at once, as on a GPU.
    """
    sd15 = [layer for part in sd15_layers().values() for layer in part]
    ours = []
    theirs = []
    models = [sd15[::22], sd15[::4], sd15, sdxl_layers()["unet"]]
    for layers in models:
        groups = lora_groups({"all": layers})
        ours.append(_operations(DAdaptAdam(groups, block_size=UNBLOCKED, **RECIPE)))
        theirs.append(_operations(reference_optimizer(lora_groups({"all": layers}), **RECIPE)))
    return {"x": [len(layers) for layers in models], "ours": ours, "dadaptation": theirs}


def _operations(optimizer: torch.optim.Optimizer) -> int:
    optimizer.step()  # the first one makes its state
    return count(optimizer.step)[0].total()


# the report -------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument(
        "--blocks", action="store_true", help=f"time block sizes instead (in use: {CPU_BLOCK})"
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with _one_thread():
        return _measured_blocks(options) if options.blocks else _measured(options.device, options.rounds)


def _measured_blocks(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "medians": {
            f"blocks of {size}, ms": round(taken, 2) for size, taken in block_sweep(options.rounds).items()
        }
    }


def _measured(device: str, rounds: int) -> dict[str, Any]:
    times = milliseconds(optimizers(device), rounds)
    ours = times[OURS]
    counts = {"528": step_counts(sd15_layers()), "1444": step_counts(sdxl_layers())}
    return {
        "values": sum(p.numel() for p in _parameters(lora_groups(sd15_layers()))),
        "medians": {f"{name}, ms": round(statistics.median(taken), 2) for name, taken in times.items()},
        "ratios": {
            "optimizer_vs_dadaptation": round(median_ratio(ours, times["dadaptation 3.2"]), 3),
            "optimizer_vs_adamw_fused": round(median_ratio(ours, times["AdamW fused"]), 3),
        },
        "counts": {
            "tensor_ops": {size: operations for size, (operations, _) in counts.items()},
            "host_syncs": {size: reads for size, (_, reads) in counts.items()},
        },
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def markdown(result: dict[str, Any]) -> str:
    times = {name.removesuffix(", ms"): taken for name, taken in result["medians"].items()}
    if "counts" not in result:
        return "\n".join(
            [
                "| blocks | ms per step, median |",
                "|---|---|",
                *(f"| {name} | {taken:.1f} |" for name, taken in times.items()),
            ]
        )
    rows = [f"| {name} | {taken:.1f} | {times[OURS] / taken:.2f} |" for name, taken in times.items()]
    counts = [
        f"| {size} | {result['counts']['tensor_ops'][size]} | {result['counts']['host_syncs'][size]} |"
        for size in result["counts"]["tensor_ops"]
    ]
    return "\n".join(
        [
            f"One step, 528 tensors, {result['values'] / 1e6:.1f} M values; one thread.",
            "",
            "| optimizer | ms per step, median | ours over this |",
            "|---|---|---|",
            *rows,
            "",
            "| parameter tensors, in one group | tensor operations per step | synchronizations per step |",
            "|---|---|---|",
            *counts,
        ]
    )
