"""One seeded generator for each thing that is drawn at random, so that changing one does not change the
others.
"""

import hashlib
from dataclasses import dataclass, fields

import torch

CPU = torch.device("cpu")
EACH_STEP = ("noise", "timesteps")
DRAW = ("cpu", "cuda", "xpu", "mps")  # devices that have a generator of their own


def stream(seed: int, name: str, device: torch.device = CPU) -> torch.Generator:
    """A generator for the named stream of a run."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Generators:
    """The streams of one run."""

    init: torch.Generator
    order: torch.Generator
    noise: torch.Generator
    timesteps: torch.Generator
    heldout: torch.Generator
    probe: torch.Generator

    @classmethod
    def seeded(cls, seed: int, device: torch.device = CPU) -> "Generators":
        """What each step draws is drawn on `device`, if that can; the rest on the CPU, the same whatever the
        device.
        """
        there = device if device.type in DRAW else CPU
        return cls(
            **{
                field.name: stream(seed, field.name, there if field.name in EACH_STEP else CPU)
                for field in fields(cls)
            }
        )
