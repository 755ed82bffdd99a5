"""Our D-Adaptation in a run: gradients, parts that stop, d that is frozen or capped, memory."""

import copy
import gc
import math
import weakref

import pytest
import torch
from comfyui_dadapt_lora.trainer.errors import TrainerError
from comfyui_dadapt_lora.trainer.optim.dadapt import DAdaptAdam, reference_optimizer
from comfyui_dadapt_lora.trainer.optim.flat_parameters import ALIGNMENT
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

from tests.unit.optim.dadapt_runs import (
    RECIPE,
    ToyLoRA,
    a_group,
    deep_state,
    farthest,
    ours_for,
    pair,
    parameters_like,
    parts,
    play,
    problems,
    quick,
    record,
    reference_d,
    same_bits,
    steps_of,
    values,
)


def test_autograd_adds_into_the_flat_gradient_without_a_copy():
    toy = ToyLoRA()
    optimizer = DAdaptAdam(parts(toy.parameters))
    toy.loss().backward()
    optimizer.step()
    views = [p.grad for p in toy.parameters]
    addresses = [view.data_ptr() for view in views]
    optimizer.zero_grad()
    assert all(not view.any() for view in views)
    toy.loss().backward()
    assert all(p.grad is view and view.any() for p, view in zip(toy.parameters, views, strict=True))
    assert [p.grad.data_ptr() for p in toy.parameters] == addresses
    assert len({view.untyped_storage().data_ptr() for view in views[:2]}) == 1


@pytest.mark.parametrize("set_to_none", [False, True])
def test_a_training_loop_runs_as_with_dadaptation(set_to_none):
    toys = ToyLoRA(), ToyLoRA()
    ours = DAdaptAdam(parts(toys[0].parameters), **RECIPE)
    reference = reference_optimizer(parts(toys[1].parameters), **RECIPE)
    for _ in range(200):
        losses = [toy.loss() for toy in toys]
        for loss, optimizer in zip(losses, (ours, reference), strict=True):
            (loss / 2).backward()
            (loss.detach() * 0 + toys[optimizer is reference].loss() / 2).backward()  # gradients accumulate
            optimizer.step()
        ours.zero_grad(set_to_none=set_to_none)
        reference.zero_grad()
    assert ours.d == pytest.approx(reference_d(reference), rel=1e-9)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-9)


def test_a_parameter_without_a_gradient_keeps_every_bit():
    """Value and state of the missing ones: no decay, no decaying moments. The others move."""
    start, tape = record(20, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start, torch.float32)), **RECIPE)
    for gradients in tape[:10]:
        play(ours, gradients)
    before = values(ours)
    state = copy.deepcopy(ours.state_dict()["state"])
    for down_text, _, down_unet, up_unet in tape[10:]:
        play(ours, [down_text, None, down_unet, up_unet])
    after = values(ours)
    state_after = ours.state_dict()["state"]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, False, False]
    assert all(torch.equal(state[1][name], state_after[1][name]) for name in ("s", "exp_avg", "exp_avg_sq"))


def test_without_any_gradient_a_step_is_nothing():
    start, tape = record(3, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)))
    play(ours, tape[0])
    before = deep_state(ours)
    play(ours, [None] * 4)
    assert same_bits(before, deep_state(ours))


def test_gradient_norm_is_that_of_all_groups():
    start, tape = record(1, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)), block_size=ALIGNMENT)
    play(ours, tape[0])
    assert ours.gradient_norm == pytest.approx(
        torch.cat([g.flatten() for g in tape[0]]).norm().item(), rel=1e-12
    )


BROKEN = [math.nan, math.inf, -math.inf, 1e25]  # the last one has no square in fp32


@pytest.mark.parametrize("bad", BROKEN)
@pytest.mark.parametrize("s_dtype", [None, torch.bfloat16], ids=str)
def test_a_broken_gradient_changes_no_bit_and_is_counted(bad, s_dtype):
    """... and the run goes on as if the step had never been."""
    start, tape = record(40, missing=0, **RECIPE)
    struck, spared = (
        DAdaptAdam(parts(parameters_like(start, torch.float32)), s_dtype=s_dtype, **RECIPE) for _ in range(2)
    )
    for k, gradients in enumerate(tape):
        if k >= 20:
            before = deep_state(struck)
            broken = [g.clone() for g in gradients]
            broken[k % 4].view(-1)[k] = bad
            play(struck, broken, k)
            for group in before[-2:]:
                group["lr"] = struck.param_groups[0]["lr"]
            assert same_bits(before, deep_state(struck))
            assert (struck.skipped_steps, struck.consecutive_skipped) == (k - 19, 1)
            assert not struck.gradient_norm < 1e19
        for optimizer in (struck, spared):
            play(optimizer, gradients, k)
        assert struck.consecutive_skipped == 0
    assert same_bits(deep_state(struck), deep_state(spared))


def test_broken_steps_in_a_row_are_counted_in_a_row():
    start, tape = record(1, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)))
    for count in (1, 2, 3):
        play(ours, [g * math.nan for g in tape[0]])
        assert (ours.skipped_steps, ours.consecutive_skipped) == (count, count)


@quick
@given(problems(), st.sampled_from(BROKEN[:3]), st.integers(0, 9), st.floats(0, 1), st.floats(0, 1))
def test_one_broken_value_anywhere_is_as_if_the_step_had_not_been(problem, bad, when, which, where):
    struck = ours_for(problem)
    spared = ours_for(problem)
    for k, gradients in enumerate(steps_of(problem, 10)):
        for optimizer in (struck, spared):
            play(optimizer, gradients)
        present = [i for i, g in enumerate(gradients) if g is not None]
        if k == when and present:
            broken = [None if g is None else g.clone() for g in gradients]
            victim = broken[present[int(which * (len(present) - 1))]].view(-1)
            victim[int(where * (len(victim) - 1))] = bad
            play(struck, broken)
            assert struck.consecutive_skipped == 1
    assert same_bits(deep_state(struck), deep_state(spared))


def test_a_d_that_explodes_stops_growing_before_it_breaks_anything():
    """The same gradient for ever: d grows without end. dadaptation raises from the middle of a step here."""
    ours = DAdaptAdam([a_group()])
    for _ in range(400):
        play(ours, [torch.ones(3)])
    assert ours.consecutive_skipped > 100
    assert all(torch.isfinite(x).all() for x in deep_state(ours) if isinstance(x, torch.Tensor))


def test_zero_grad_also_reaches_a_gradient_from_elsewhere():
    start, tape = record(2, missing=0)
    parameters = parameters_like(start)
    ours = DAdaptAdam([{"params": parameters}])
    play(ours, tape[0])
    parameters[0].grad = torch.ones_like(parameters[0])
    parameters[1].grad = None
    ours.zero_grad()
    assert [p.grad is None for p in parameters] == [False, True, False, False]
    assert not any(p.grad.any() for p in parameters if p.grad is not None)


def test_a_parameter_that_was_moved_away_is_an_error_not_a_standstill():
    layer = torch.nn.Linear(4, 3).double()
    ours = DAdaptAdam(layer.parameters())
    layer.weight.data = layer.weight.data.clone()
    layer(torch.ones(1, 4, dtype=torch.float64)).sum().backward()
    with pytest.raises(TrainerError, match="no longer lies where the optimizer put it"):
        ours.step()


def test_a_stopped_part_moves_by_exactly_zero_and_counts_for_d_as_zero_gradients():
    """At every step d is, to 1e-10, that of dadaptation with gradients of zero for the part from then on."""
    start, tape = record(200, missing=0, **RECIPE)
    ours, reference = pair(start, **RECIPE)
    for k, gradients in enumerate(tape):
        if k == 25:
            ours.stop_group(0)
            stopped = values(ours)[:2]
        play(ours, gradients, k)
        play(reference, gradients if k < 25 else [0 * gradients[0], 0 * gradients[1], *gradients[2:]], k)
        assert ours.d == pytest.approx(reference_d(reference), rel=1e-10)
    assert ours.d > 100 * 1e-6
    assert all(torch.equal(p, q) for p, q in zip(values(ours)[:2], stopped, strict=True))
    assert all(torch.equal(p, q) is False for p, q in zip(values(ours)[2:], start[2:], strict=True))
    assert not ours.state_dict()["state"].keys() & {0, 1}


def test_d_does_not_jump_when_the_noisier_part_stops():
    """d goes where it would have gone if the part had gone on.

    The other part's own estimate, which the sums would give at once, is half as high again.
    """
    random = torch.Generator().manual_seed(0)
    start = [torch.zeros(400, dtype=torch.float64), torch.zeros(400, dtype=torch.float64)]
    stopped, trained = (DAdaptAdam([{"params": [p]} for p in parameters_like(start)]) for _ in range(2))
    for k in range(31):
        noise, signal = torch.randn(2, 400, generator=random, dtype=torch.float64)
        if k == 30:
            stopped.stop_group(0)
        play(stopped, [30 * noise if k < 30 else None, 1 + signal])
        play(trained, [30 * noise, 1 + signal])
    own_estimate = trained.param_groups[1]["nw"] / ((1 - math.sqrt(0.999)) * trained._s_l1(1))
    assert own_estimate > 1.5 * trained.d
    assert stopped.d == pytest.approx(trained.d, rel=0.02)


def test_gradients_of_a_stopped_part_are_dropped_and_the_rest_may_stop_too():
    toy = ToyLoRA()
    ours = DAdaptAdam(parts(toy.parameters), **RECIPE)
    for _ in range(5):
        ours.zero_grad()
        toy.loss().backward()
        ours.step()
    ours.stop_group(0)
    toy.loss().backward()
    ours.zero_grad()
    assert [p.grad is None for p in toy.parameters] == [True, True, False, False]
    ours.stop_group(1)
    before = values(ours)
    toy.loss().backward()
    ours.step()
    assert same_bits(before, values(ours))


def test_frozen_d_is_dadaptation_at_growth_rate_one():
    start, tape = record(120, **RECIPE)
    ours, reference = pair(start, **RECIPE)
    for k, gradients in enumerate(tape):
        if k == 60:
            d = ours.d
            ours.freeze_d()
            reference.param_groups[0]["growth_rate"] = 1.0
        play(ours, gradients, k)
        play(reference, gradients, k)
    assert ours.d == d > 10 * 1e-6
    assert farthest(ours, reference, start) < 1e-10


def test_the_cap_holds_and_below_it_nothing_changes():
    start, tape = record(120, missing=0, **RECIPE)
    free, capped = (
        DAdaptAdam(parts(parameters_like(start)), d_cap=cap, **RECIPE) for cap in (math.inf, 1e-3)
    )
    reached = 0
    for k, gradients in enumerate(tape):
        play(free, gradients, k)
        play(capped, gradients, k)
        reached += capped.d == 1e-3
        assert capped.d <= 1e-3
        assert reached or capped.d == free.d
    assert free.d > 2e-3 and reached > 10
    capped.d_cap = 1e-4
    assert capped.d == 1e-4
    play(capped, tape[-1])
    assert capped.d == 1e-4
    capped.d_cap = 5e-4
    assert capped.d == 1e-4


def test_a_cap_below_d_shrinks_what_the_momentum_still_does():
    """m is linear in d: with gradients of zero, the capped run moves a quarter as far, the same way."""
    start, tape = record(60, missing=0, **RECIPE)
    free, capped = (DAdaptAdam(parts(parameters_like(start)), weight_decay=0.0) for _ in range(2))
    for k, gradients in enumerate(tape):
        play(free, gradients, k)
        play(capped, gradients, k)
    capped.d_cap = free.d / 4
    before = values(free)
    for optimizer in (free, capped):
        play(optimizer, [torch.zeros_like(gradient) for gradient in tape[-1]])
    for was, far, near in zip(before, values(free), values(capped), strict=True):
        assert torch.allclose((near - was) * 4, far - was, rtol=1e-9, atol=0)


def test_state_takes_12_bytes_per_value_10_with_bf16_s_and_8_with_frozen_d():
    def bytes_per_value(**options):
        optimizer = DAdaptAdam([{"params": [Parameter(torch.ones(32, 10 * ALIGNMENT))]}], **options)
        tensors = [
            x
            for row in optimizer.state_dict()["state"].values()
            for x in row.values()
            if isinstance(x, torch.Tensor)
        ]
        storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
        optimizer.freeze_d()
        left = optimizer.state_dict()["state"][0]
        storages_left = [x.untyped_storage().nbytes() for x in left.values() if isinstance(x, torch.Tensor)]
        return sum(storages.values()) / (320 * ALIGNMENT), sum(storages_left) / (320 * ALIGNMENT)

    assert bytes_per_value() == (12, 8)
    assert bytes_per_value(s_dtype=torch.bfloat16) == (10, 8)


def test_parameters_of_a_group_share_one_tensor_and_keep_their_values_and_shapes():
    start, _ = record(1)
    parameters = parameters_like(start)
    DAdaptAdam([{"params": parameters}])
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == 1
    assert same_bits([p.detach() for p in parameters], start)
    assert all(p.is_leaf and p.requires_grad and p.is_contiguous() for p in parameters)
    assert all(p.data_ptr() % 256 == parameters[0].data_ptr() % 256 for p in parameters)


def test_a_convolution_in_channels_last_trains_as_any_other():
    weight = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizers = [
        make([Parameter(weight.to(memory_format=torch.channels_last, copy=True))])
        for make in (DAdaptAdam, reference_optimizer)
    ]
    for optimizer in optimizers:
        for _ in range(10):
            optimizer.zero_grad()
            optimizer.param_groups[0]["params"][0].pow(2).mul(weight).sum().backward()
            optimizer.step()
    assert torch.allclose(*(values(optimizer)[0] for optimizer in optimizers), rtol=1e-12, atol=0)


def test_release_gives_every_parameter_its_own_tensor_and_lets_the_buffers_go():
    toy = ToyLoRA()
    ours = DAdaptAdam(parts(toy.parameters))
    toy.loss().backward()
    ours.step()
    trained = values(ours)
    buffers = [weakref.ref(x) for flat in ours._flats for x in (flat.p, flat.g, flat.m, flat.v, flat.s)]
    ours.release()
    gc.collect()
    assert [ref() for ref in buffers] == [None] * 10
    assert same_bits(values(ours), trained)
    assert all(
        p.untyped_storage().nbytes() == p.numel() * p.element_size() and p.grad is None
        for p in toy.parameters
    )
