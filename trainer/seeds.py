"""One seeded generator for each thing that is drawn at random, so that changing one does not change the others."""

import hashlib
from dataclasses import dataclass, fields

import torch

CPU = torch.device("cpu")
EACH_STEP = ("noise", "timesteps")


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
        """What each step draws is drawn on `device`, where it is used; the rest on the CPU, the same whatever the device."""
        return cls(**{field.name: stream(seed, field.name, device if field.name in EACH_STEP else CPU) for field in fields(cls)})
