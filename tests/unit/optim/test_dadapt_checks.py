"""What our D-Adaptation refuses, with the reason."""

import copy
import math

import pytest
import torch
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.optim.dadapt import DAdaptAdam, reference_optimizer

from tests.unit.optim.dadapt_runs import (
    RECIPE,
    a_group,
    deep_state,
    pair,
    parameters_like,
    parts,
    play,
    record,
    reference_d,
    same_bits,
)

REFUSED = {
    "fp16": ([a_group(torch.float16)], {}, "float32.*stays at 1e-6"),
    "bf16": ([a_group(), a_group(torch.bfloat16)], {}, "float32, got torch.bfloat16"),
    "coupled decay": ([a_group()], {"decouple": False, "weight_decay": 0.02}, "decouple=False.*destroys"),
    "coupled decay in one group": (
        [a_group(), a_group(weight_decay=0.1)],
        {"decouple": False},
        "decouple=False",
    ),
    "unequal rates": ([a_group(lr=0.5), a_group()], {}, r"lr differs.*layer_scale"),
    "unequal betas": ([a_group(betas=(0.9, 0.99)), a_group()], {}, "betas differs.*share one d"),
    "layer_scale 0": ([a_group(layer_scale=0)], {}, "layer_scale.*above 0.*stop"),
    "rate": ([a_group()], {"lr": -1}, "lr.*got -1"),
    "growth": ([a_group()], {"growth_rate": 0.9}, "growth_rate.*from 1 up"),
    "betas": ([a_group()], {"betas": (0.9, 1.0)}, "betas.*beta2"),
    "eps": ([a_group()], {"eps": 0}, "eps.*above 0"),
    "d0": ([a_group()], {"d0": 0}, "d.*above 0"),
    "cap": ([a_group()], {"d_cap": -1}, "above 0"),
    "s in fp16": ([a_group()], {"s_dtype": torch.float16}, "s_dtype.*bfloat16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason_and_the_parameters_as_they_were(case):
    groups, options, reason = REFUSED[case]
    addresses = [p.data_ptr() for group in groups for p in group["params"]]
    with pytest.raises(SettingError, match=reason):
        DAdaptAdam(groups, **options)
    assert [p.data_ptr() for group in groups for p in group["params"]] == addresses


def test_decouple_off_without_decay_is_fine():
    start, tape = record(5)
    ours, reference = pair(start, decouple=False)
    for gradients in tape:
        play(ours, gradients)
        play(reference, gradients)
    assert ours.d == pytest.approx(reference_d(reference), rel=1e-10)


def test_rates_that_part_during_the_run_are_refused():
    """dadaptation raises too, unless one of them is 0: then it lets a part drift for ever."""
    start, tape = record(1, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)))
    play(ours, tape[0])
    for rate in (0.5, 0.0, math.nan, -1.0):
        ours.param_groups[0]["lr"] = rate
        with pytest.raises(SettingError, match=r"Different rates.*layer_scale"):
            ours.step()


def test_a_refused_state_leaves_the_optimizer_as_it_was():
    start, tape = record(3, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)), **RECIPE)
    play(ours, tape[0])
    before = deep_state(ours)
    bad = copy.deepcopy(ours.state_dict())
    for group in bad["param_groups"]:
        group["decouple"] = False
    with pytest.raises(SettingError, match="decouple=False"):
        ours.load_state_dict(bad)
    assert same_bits(before, deep_state(ours))


def test_there_is_no_group_minus_one_to_stop():
    with pytest.raises(SettingError, match="from 0 to 1, got -1"):
        DAdaptAdam([a_group(), a_group()]).stop_group(-1)


def test_groups_cannot_be_added_later():
    ours = DAdaptAdam([a_group()])
    with pytest.raises(SettingError, match="when the optimizer is made"):
        ours.add_param_group(a_group())


def test_the_reference_keeps_quiet(capsys):
    reference_optimizer([a_group()], weight_decay=0.02)
    assert capsys.readouterr() == ("", "")
