"""What a run draws is a function of what it is drawn for."""

import torch
from comfyui_dadapt_lora.trainer.seeds import CPU, noise_of_step, stream, uniform, uniform_of_step
from hypothesis import given
from hypothesis import strategies as st

SHAPE = (3, 4, 2, 2)


def test_a_step_draws_the_same_without_the_steps_before_it():
    first = [noise_of_step(7, step, SHAPE, CPU) for step in range(5)]
    assert torch.equal(noise_of_step(7, 4, SHAPE, CPU), first[4])
    assert torch.equal(uniform_of_step(7, 4, 3), uniform_of_step(7, 4, 3))


def test_a_place_draws_the_same_whatever_the_batch_is():
    """So that two processes that share a batch draw what one would."""
    assert torch.equal(noise_of_step(7, 4, SHAPE, CPU)[:2], noise_of_step(7, 4, (2, *SHAPE[1:]), CPU))
    assert torch.equal(uniform_of_step(7, 4, 3)[:2], uniform_of_step(7, 4, 2))


def test_seeds_steps_places_and_things_differ():
    drawn = [noise_of_step(seed, step, SHAPE, CPU).flatten(1) for seed in (0, 1) for step in (0, 1)]
    rows = torch.cat(drawn)
    assert len(torch.unique(rows, dim=0)) == len(rows) == 12
    shares = {uniform(seed, what, step) for seed in (0, 1) for what in "ab" for step in (0, 1)}
    assert len(shares) == 8


def test_noise_is_normal_and_levels_are_uniform():
    """Mean, variance and the largest distance from the uniform distribution, over 20,000 draws."""
    noise = torch.cat([noise_of_step(0, step, (4, 500), CPU).flatten() for step in range(10)])
    assert abs(noise.mean()) < 0.03 and abs(noise.var() - 1) < 0.03
    levels = torch.cat([uniform_of_step(0, step, 20) for step in range(1000)]).sort().values
    expected = (torch.arange(len(levels)) + 0.5) / len(levels)
    assert (levels - expected).abs().max() < 0.015


@given(st.integers(0, 2**53), st.integers(0, 10**6))
def test_a_level_is_never_one(seed, step):
    """An index into a table of noise levels made from it always exists."""
    level = uniform_of_step(seed, step, 1)
    assert 0 <= level.item() < 1
    assert (level * 1000).long().item() < 1000


def test_a_seed_gives_these_numbers_on_every_machine():
    """Written down from the first run: a LoRA's seed must mean the same after an update."""
    assert [round(value, 4) for value in uniform_of_step(7, 3, 2).tolist()] == [0.3969, 0.2129]
    assert [round(value, 4) for value in noise_of_step(7, 3, (1, 2), CPU)[0].tolist()] == [-0.2751, -0.2764]
    assert [round(value, 4) for value in torch.randn(2, generator=stream(7, "noise")).tolist()] == [
        0.9532,
        -0.5387,
    ]
