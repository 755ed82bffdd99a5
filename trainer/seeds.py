"""One seeded generator for each thing that is drawn at random, so that changing one does not change the others."""

import hashlib

import torch

STREAMS = ("init", "order", "noise", "timesteps", "heldout")


def stream_seed(seed: int, stream: str) -> int:
    """A 63-bit seed for the named stream of a run. The same on every machine and Python."""
    digest = hashlib.sha256(f"{seed}:{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Generators:
    """CPU generators by stream name; drawing on the CPU gives the same numbers whatever the device."""

    def __init__(self, seed: int) -> None:
        for stream in STREAMS:
            setattr(self, stream, torch.Generator().manual_seed(stream_seed(seed, stream)))

    init: torch.Generator
    order: torch.Generator
    noise: torch.Generator
    timesteps: torch.Generator
    heldout: torch.Generator

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state of each stream, for resuming."""
        return {stream: getattr(self, stream).get_state() for stream in STREAMS}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        for stream in STREAMS:
            getattr(self, stream).set_state(state[stream])
