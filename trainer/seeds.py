"""Everything that a run draws at random, as functions of what it is drawn for.

Nothing is a stream that is used up: what step 700 draws is known without the 699 steps before it. So a run
that is continued, one that is split over several processes, and one that draws previews in between all see
the same numbers, and no generator's state has to be saved.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

CPU = torch.device("cpu")
HAVE_GENERATORS = ("cpu", "cuda", "xpu", "mps")  # devices that can draw by themselves


def hashed(*key: object) -> int:
    """A number from 0 to 2^63 - 1 that depends on every part of `key`, the same on every machine."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def uniform(*key: object) -> float:
    """A number in [0, 1), uniformly distributed over different keys."""
    return (hashed(*key) >> 10) / 2**53


def stream(*key: object, device: torch.device = CPU) -> torch.Generator:
    """A generator that starts where `key` says."""
    return torch.Generator(device).manual_seed(hashed(*key))


def uniform_of_step(seed: int, step: int, batch_size: int) -> Tensor:
    """One number in [0, 1) per place in the batch of step `step`: [batch], float64, on the CPU."""
    return torch.tensor(
        [uniform(seed, "sigma", step, place) for place in range(batch_size)], dtype=torch.float64
    )


def noise_of_step(
    seed: int, step: int, shape: Sequence[int], device: torch.device, what: str = "noise"
) -> Tensor:
    """Normal noise of `shape` [batch, ...] for step `step`, in fp32 on `device`, each place drawn by itself.

    `what` it is for: other numbers for each. It is drawn on the device where that has a generator, else on
    the CPU.
    """
    draws_on = device if device.type in HAVE_GENERATORS else CPU
    noise = torch.empty(tuple(shape), device=draws_on)
    for place, of_one in enumerate(noise):
        of_one.normal_(generator=stream(seed, what, step, place, device=draws_on))
    return noise.to(device)
