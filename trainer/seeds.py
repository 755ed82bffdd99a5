"""One seeded generator for each thing that is drawn at random, so that changing one does not change the others."""

import hashlib
from dataclasses import dataclass, fields

import torch


def stream(seed: int, name: str) -> torch.Generator:
    """A generator for the named stream of a run. On the CPU, so that it draws the same numbers whatever the device."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


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
    def seeded(cls, seed: int) -> "Generators":
        return cls(**{field.name: stream(seed, field.name) for field in fields(cls)})
