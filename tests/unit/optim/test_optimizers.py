"""Every optimizer that a preset chooses, as the training loop drives it."""

import math

import pytest
import torch
from comfyui_dadapt_lora.trainer.optim.registry import build_optimizer
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
from comfyui_dadapt_lora.trainer.settings.presets import PRESETS
from torch import nn

STEPS = 120
LOSS = torch.tensor(1.0)


def problem(seed=0):
    """Two parts, each a quadratic with its own minimum 0.5 away, and noisy gradients."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(8, 8, generator=generator)
    parts = {part: [nn.Parameter(start.clone())] for part in ("unet", "text_encoder")}
    return parts, start + 0.5, generator


def descend(optimizer, parts, goal, generator, steps=STEPS, after=lambda step: None):
    """Steps towards the goal, with the same gradients for both parts where they are at the same place."""
    for step in range(steps):
        noise = 0.1 * torch.randn(goal.shape, generator=generator)
        for (p,) in parts.values():
            if p.requires_grad:
                p.grad = (p.detach() - goal + noise).clone()
        optimizer.set_rate(1.0)
        numbers = optimizer.step(LOSS)
        assert numbers.finite and numbers.loss == 1.0
        optimizer.zero_grad()
        after(step)


def distance(p, goal):
    return (p.detach() - goal).square().mean().sqrt().item()


CHOICES = [{"preset": name} for name in PRESETS] + [{"implementation": "reference"}, {"s_in_bf16": True}]
NAMED = [pytest.param(choice, id=" ".join(map(str, choice.values()))) for choice in CHOICES]
# Rates at which the problem is solved in time, for presets that have them.
EAGER = {"d0": 1e-3, "growth_rate": 1.1, "adamw_rate": 1e-2}


def config(choice):
    fields = PRESETS[choice.get("preset", "guide 2023")].fields
    eager = {name: value for name, value in EAGER.items() if name in fields}
    return OptimizerConfig(weight_decay=0.0, **(eager | choice)).resolved()


@pytest.mark.parametrize("choice", NAMED)
def test_every_choice_comes_closer_to_the_goal(choice):
    parts, goal, generator = problem()
    optimizer = build_optimizer(config(choice), parts, STEPS)
    descend(optimizer, parts, goal, generator)
    optimizer.release()
    assert distance(parts["unet"][0], goal) < 0.35 < 0.5


@pytest.mark.parametrize("choice", NAMED)
def test_text_encoder_at_half_speed_moves_half_as_far_at_equal_gradients(choice):
    """Both parts share one d, so that only the speed makes a difference.

    Adam's moments are sums: the same gradients give the same direction.
    """
    start = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    parts = {part: [nn.Parameter(start.clone())] for part in ("unet", "text_encoder")}
    optimizer = build_optimizer(config(choice), parts, STEPS)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        gradient = torch.randn(8, 8, generator=generator)
        before = [p.detach().clone() for (p,) in parts.values()]
        for (p,) in parts.values():
            p.grad = gradient.clone()
        optimizer.set_rate(1.0)
        optimizer.step(LOSS)
        rates = optimizer.rates()
        moved = [(b - p).detach().double().norm() for b, (p,) in zip(before, parts.values(), strict=True)]
        optimizer.zero_grad()
    assert rates["text_encoder"] / rates["unet"] == pytest.approx(0.5)
    # Schedule-free moves a part of the way to its average as well, which follows behind.
    averages = choice.get("preset") == "Prodigy + schedule-free"
    assert (moved[1] / moved[0]).item() == pytest.approx(0.5, abs=0.02 if averages else 1e-4)


@pytest.mark.parametrize("choice", NAMED)
@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_bit_for_bit(choice, bad):
    parts, goal, generator = problem()
    optimizer = build_optimizer(config(choice), parts, STEPS)
    descend(optimizer, parts, goal, generator, steps=5)
    before = optimizer.snapshot()
    for (p,) in parts.values():
        p.grad = torch.ones_like(p)
    if bad == "gradient":
        parts["unet"][0].grad[3, 3] = math.nan
    numbers = optimizer.step(torch.tensor(math.inf) if bad == "loss" else LOSS)
    assert not numbers.finite
    assert_same(optimizer.snapshot(), before)


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"skipped_steps", "consecutive_skipped"}:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def memories(value):
    """Where the tensors in a snapshot lie, as (address, bytes)."""
    if isinstance(value, torch.Tensor):
        return {(value.untyped_storage().data_ptr(), value.untyped_storage().nbytes())}
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return set().union(*map(memories, inside))


def test_a_snapshot_copies_flat_memory_once_and_shares_none_of_it():
    """p, m, v and s of two parts are 8 copies, however many layers there are.

    A copy of each layer's tensors would wait for the device once per tensor.
    """
    layers = 20
    parts = {
        part: [nn.Parameter(torch.randn(8, 8)) for _ in range(layers)] for part in ("unet", "text_encoder")
    }
    optimizer = build_optimizer(OptimizerConfig(), parts, STEPS)
    copied = memories(optimizer.snapshot())
    live = memories([optimizer.parameters, optimizer.optimizer.state_dict()])
    assert len(copied) == len(live) == 4 * 2
    assert sum(size for _, size in copied) == 4 * 2 * layers * 64 * 4
    assert not copied & live


@pytest.mark.parametrize("choice", NAMED)
def test_a_snapshot_gives_the_run_back_bit_for_bit(choice):
    """It does so a second time as well, after the state was used."""
    parts, goal, generator = problem()
    optimizer = build_optimizer(config(choice), parts, STEPS)
    descend(optimizer, parts, goal, generator, steps=10)
    snapshot = optimizer.snapshot()
    noise = generator.get_state()
    ends = []
    for _ in range(3):
        descend(optimizer, parts, goal, generator.set_state(noise), steps=10)
        ends.append([p.detach().clone() for (p,) in parts.values()])
        optimizer.restore(snapshot)
    assert torch.equal(ends[0][0], ends[1][0]) and torch.equal(ends[1][0], ends[2][0])
    assert torch.equal(ends[0][1], ends[2][1])


CAPPED = [choice for choice in NAMED if choice.values[0].get("preset") not in ("AdamW", "as published")]


def rms_of_next_step(optimizer, parts, goal, generator):
    """How far the UNet's part goes in one step."""
    before = parts["unet"][0].detach().clone()
    descend(optimizer, parts, goal, generator, steps=1)
    return distance(parts["unet"][0], before)


@pytest.mark.parametrize("choice", NAMED)
def test_kept_below_a_limit_a_step_shrinks_with_the_rate_at_once(choice):
    """Half the rate is half the way, but for what a step adds itself, so the momentum shrinks as well.

    This holds after a snapshot too.
    """
    ends = {}
    for share in (1.0, 0.5):
        parts, goal, generator = problem()
        optimizer = build_optimizer(config(choice), parts, STEPS)
        descend(optimizer, parts, goal, generator, steps=30)
        optimizer.restore(optimizer.snapshot())
        optimizer.keep_below(optimizer.scale * share)
        assert max(optimizer.rates().values()) <= optimizer.limit
        ends[share] = rms_of_next_step(optimizer, parts, goal, generator)
    # schedule-free weighs each step in its average by the square of the rate, so that y follows less as well
    least, most = (0.2, 0.55) if choice.get("preset") == "Prodigy + schedule-free" else (0.475, 0.525)
    assert least < ends[0.5] / ends[1.0] < most


@pytest.mark.parametrize("choice", NAMED)
def test_a_limit_holds_for_the_rest_of_the_run(choice):
    parts, goal, generator = problem()
    optimizer = build_optimizer(config(choice), parts, STEPS)
    descend(optimizer, parts, goal, generator, steps=10)
    limit = optimizer.scale
    optimizer.keep_below(limit)
    seen = []
    descend(optimizer, parts, goal, generator, steps=30, after=lambda step: seen.append(optimizer.scale))
    assert max(seen) <= limit


@pytest.mark.parametrize("choice", NAMED)
def test_a_limit_outlives_a_snapshot_from_before_it(choice):
    parts, goal, generator = problem()
    optimizer = build_optimizer(config(choice), parts, STEPS)
    descend(optimizer, parts, goal, generator, steps=10)
    snapshot = optimizer.snapshot()
    limit = optimizer.scale / 2
    optimizer.keep_below(limit)
    optimizer.restore(snapshot)
    seen = [optimizer.scale]
    descend(optimizer, parts, goal, generator, steps=10, after=lambda step: seen.append(optimizer.scale))
    assert max(seen) <= limit


@pytest.mark.parametrize("choice", CAPPED)
def test_a_cap_from_the_start_is_kept_and_reached(choice):
    parts, goal, generator = problem()
    cap = 2e-3 if choice.get("preset") != "Prodigy + schedule-free" else 1.1e-3
    fields = PRESETS[choice.get("preset", "guide 2023")].fields
    assert "d_cap" in fields
    optimizer = build_optimizer(config(choice | {"d_cap": cap}), parts, STEPS)
    seen = []
    descend(optimizer, parts, goal, generator, after=lambda step: seen.append(optimizer.scale))
    assert max(seen) == cap


def test_capped_the_reference_goes_the_same_way_as_ours():
    """They add up in different orders in fp32, and reach the cap after a few steps."""
    ends = []
    for implementation in ("fast", "reference"):
        parts, goal, generator = problem()
        optimizer = build_optimizer(config({"implementation": implementation, "d_cap": 1.2e-3}), parts, STEPS)
        descend(optimizer, parts, goal, generator, steps=60)
        assert optimizer.d == 1.2e-3
        ends.append(parts["unet"][0].detach().clone())
    assert torch.allclose(*ends, rtol=0, atol=1e-5)


@pytest.mark.parametrize("choice", [{}, {"preset": "AdamW"}, {"s_in_bf16": True}])
def test_a_stopped_part_moves_by_exactly_nothing(choice):
    """Not from the momentum, not from the decay; the other part goes on."""
    parts, goal, generator = problem()
    optimizer = build_optimizer(config(choice), parts, STEPS)
    descend(optimizer, parts, goal, generator, steps=20)
    optimizer.stop("text_encoder")
    stopped, running = (parts[part][0].detach().clone() for part in ("text_encoder", "unet"))
    descend(optimizer, parts, goal, generator, steps=20)
    assert torch.equal(parts["text_encoder"][0], stopped)
    assert not torch.equal(parts["unet"][0], running)
    assert optimizer.rates()["text_encoder"] is None


def test_stopped_and_frozen_stay_so_through_a_snapshot_from_before():
    """A burn goes back to it; d must not jump, and the part must not come back."""
    parts, goal, generator = problem()
    optimizer = build_optimizer(config({}), parts, STEPS)
    descend(optimizer, parts, goal, generator, steps=20)
    snapshot = optimizer.snapshot()
    optimizer.stop("text_encoder")
    optimizer.freeze_d()
    descend(optimizer, parts, goal, generator, steps=5)
    optimizer.restore(snapshot)
    d = optimizer.d
    stopped = parts["text_encoder"][0].detach().clone()
    assert optimizer.optimizer.d_frozen
    assert [group["stopped"] for group in optimizer.optimizer.param_groups] == [False, True]
    running = parts["unet"][0].detach().clone()
    descend(optimizer, parts, goal, generator, steps=20)
    assert optimizer.d == d
    assert torch.equal(parts["text_encoder"][0], stopped)
    assert not torch.equal(parts["unet"][0], running)


def test_schedule_free_outputs_its_average():
    """Inside the block the weights are the paper's x, which lags behind the y that gradients are taken at.

    After the block they are y again.
    """
    parts, goal, generator = problem()
    optimizer = build_optimizer(config({"preset": "Prodigy + schedule-free"}), parts, STEPS)
    descend(optimizer, parts, goal, generator)
    (trained,) = parts["unet"]
    before = trained.detach().clone()
    with optimizer.output_weights():
        z = optimizer.optimizer.state[trained]["z"]
        beta = optimizer.optimizer.param_groups[0]["betas"][0]
        average = trained.detach().clone()
    assert torch.allclose(before, beta * average + (1 - beta) * z, atol=1e-6)
    assert not torch.allclose(before, average, atol=1e-6)
    assert torch.equal(before, trained)  # else an intermediate checkpoint would change the run
    optimizer.release()
    assert torch.allclose(trained, average, atol=1e-6)


def test_optimizers_of_other_packages_print_nothing(capfd):
    for preset in PRESETS:
        parts, goal, generator = problem()
        descend(
            build_optimizer(OptimizerConfig(preset=preset).resolved(), parts, STEPS),
            parts,
            goal,
            generator,
            steps=40,
        )
    out, err = capfd.readouterr()
    assert out == err == ""
