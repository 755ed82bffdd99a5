"""A run goes on to the bit from a saved state, also from one of dadaptation."""

import copy
import io
import math

import pytest
import torch
from comfyui_dadapt_lora.trainer.optim.dadapt import DAdaptAdam, reference_optimizer
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.optim.dadapt_runs import (
    RECIPE,
    deep_state,
    farthest,
    ours_for,
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


def through_a_file(state):
    """A state as a resumed run gets it: saved, and loaded with only tensors and plain values allowed."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(optimizer, split, make=DAdaptAdam, **options):
    """A new optimizer over copies of the parameters, with the state and nothing else carried over."""
    fresh = make(
        split(parameters_like(values(optimizer), optimizer.param_groups[0]["params"][0].dtype)), **options
    )
    fresh.load_state_dict(through_a_file(optimizer.state_dict()))
    return fresh


CHANGES = {
    "nothing": lambda optimizer: None,
    "stop": lambda optimizer: optimizer.stop_group(0),
    "freeze": lambda optimizer: optimizer.freeze_d(),
    "cap": lambda optimizer: setattr(optimizer, "d_cap", 1e-4),
}


@pytest.mark.parametrize("s_dtype", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_resumes_to_the_bit(change, s_dtype):
    options = dict(s_dtype=s_dtype, use_bias_correction=True, **RECIPE)
    start, tape = record(60, **RECIPE, use_bias_correction=True)
    through = DAdaptAdam(parts(parameters_like(start, torch.float32)), **options)
    for k, gradients in enumerate(tape):
        if k == 20:
            play(through, [g if g is None else g * math.nan for g in tape[0]], k)
            CHANGES[change](through)
        if k == 30:
            other = resumed(through, parts, s_dtype=s_dtype)  # all other settings come with the state
            assert other.skipped_steps == 1
        play(through, gradients, k)
        if k >= 30:
            play(other, gradients, k)
    assert same_bits(deep_state(through), deep_state(other))
    assert through.d > 1e-6


def test_a_saved_state_brings_a_run_back_to_before_a_part_stopped():
    """A run that burnt does this: in the same optimizer it writes parameters back and loads the state."""
    start, tape = record(40, missing=0, **RECIPE)
    ours = DAdaptAdam(parts(parameters_like(start)), **RECIPE)
    for k, gradients in enumerate(tape[:20]):
        play(ours, gradients, k)
    saved = values(ours)
    saved_state = copy.deepcopy(ours.state_dict())
    ends = []
    for _ in range(2):
        for k, gradients in enumerate(tape[20:], 20):
            play(ours, gradients, k)
        ends.append(deep_state(ours))
        ours.stop_group(0)
        ours.freeze_d()
        ours.load_state_dict(saved_state)
        parameters = [p for group in ours.param_groups for p in group["params"]]
        with torch.no_grad():
            for p, value in zip(parameters, saved, strict=True):
                p.copy_(value)
    assert same_bits(*ends)


@quick
@given(problems(), st.integers(0, 9), st.sampled_from(list(CHANGES)))
def test_any_run_resumes_to_the_bit_from_any_step(problem, when, change):
    through = ours_for(problem)
    for k, gradients in enumerate(steps_of(problem, 10)):
        if k == when:
            CHANGES[change](through)
            other = ours_for(problem)
            other.load_state_dict(through_a_file(through.state_dict()))
            with torch.no_grad():
                for p, q in zip(
                    *([p for g in o.param_groups for p in g["params"]] for o in (other, through)), strict=True
                ):
                    p.copy_(q)
        play(through, gradients)
        if k >= when:
            play(other, gradients)
    assert same_bits(deep_state(through), deep_state(other))


@pytest.mark.parametrize("options", [{}, {"use_bias_correction": True}], ids=str)
def test_the_state_goes_to_dadaptation_and_back(options):
    """A run that changes hands every 15 steps stays on the path of one that dadaptation makes alone."""
    start, tape = record(90, **RECIPE, **options)
    alone = reference_optimizer(parts(parameters_like(start)), **RECIPE, **options)
    relay = DAdaptAdam(parts(parameters_like(start)), **RECIPE, **options)
    for k, gradients in enumerate(tape):
        if k and k % 15 == 0:
            relay = resumed(relay, parts, [DAdaptAdam, reference_optimizer][k // 15 % 2])
        play(alone, gradients, k)
        play(relay, gradients, k)
        assert reference_d(relay) == pytest.approx(reference_d(alone), rel=1e-10)
    assert reference_d(alone) > 1e-4
    assert farthest(relay, alone, start) < 1e-10


def test_a_part_can_stop_in_a_run_that_dadaptation_began():
    """Its share of dadaptation's one numerator is unknown; the one assumed leaves d where it is."""
    start, tape = record(60, missing=0, **RECIPE)
    reference = reference_optimizer(parts(parameters_like(start)), **RECIPE)
    for k, gradients in enumerate(tape[:50]):
        play(reference, gradients, k)
    ours = resumed(reference, parts)
    total = reference.param_groups[0]["numerator_weighted"]
    assert sum(group["nw"] for group in ours.param_groups) == pytest.approx(total, rel=1e-12)
    ours.stop_group(0)
    play(ours, tape[50])
    assert ours.d == pytest.approx(reference_d(reference), rel=0.05)
