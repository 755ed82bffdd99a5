"""Each random thing has a stream of its own."""

import torch
from comfyui_dadapt_lora.trainer.run.seeds import Generators


def draws(seed):
    generators = Generators.seeded(seed)
    return {
        name: tuple(torch.rand(4, generator=generator).tolist())
        for name, generator in vars(generators).items()
    }


def test_streams_differ_from_each_other_and_between_seeds():
    everything = [*draws(0).values(), *draws(1).values()]
    assert len(set(everything)) == len(everything) == 12


def test_a_seed_gives_these_numbers_on_every_machine():
    """Written down from the first run: a LoRA's seed must mean the same after an update."""
    noise = torch.randn(2, generator=Generators.seeded(7).noise)
    assert [round(value, 4) for value in noise.tolist()] == [0.9532, -0.5387]
