"""What a step of `trainer/optim/dadapt.py` costs in operations, which can be counted on any machine.

benchmarks/optimizer.py measures times.
"""

import pytest
import torch
from comfyui_dadapt_lora.benchmarks.optimizer import (
    RECIPE,
    UNBLOCKED,
    count,
    lora_groups,
    sd15_layers,
    sdxl_layers,
)
from comfyui_dadapt_lora.trainer.optim.dadapt import DAdaptAdam, reference_optimizer
from torch.profiler import ProfilerActivity, profile

OPERATIONS_A_GROUP = 21

KINDS = {
    "recipe": {},
    "s in bf16": {"s_dtype": torch.bfloat16},
    "bias correction, growth and cap": {"use_bias_correction": True, "growth_rate": 1.02, "d_cap": 1e-2},
}


def in_two_groups(parts):
    """All layers of a model in two groups, so that every model has the same number of groups."""
    layers = [layer for part in parts.values() for layer in part]
    return {"one": layers[::2], "two": layers[1::2]}


def stepped(parts, **options):
    """An optimizer after its first step, which copies the gradients into its own memory."""
    optimizer = DAdaptAdam(lora_groups(parts), block_size=UNBLOCKED, **RECIPE, **options)
    optimizer.step()
    return optimizer


def profiled(step):
    """The operations that torch's profiler sees one level below the step."""
    step()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        step()
    marks = [event for event in profiler.events() if event.name.startswith("Optimizer.step")]
    return [event.name for event in profiler.events() if event.cpu_parent in marks]


def test_the_shapes_are_those_of_the_models():
    """SD 1.5: 264 layers, 9.4 M values at dim 16; SDXL's UNet: 722 layers, 42.6 M values."""
    for parts, tensors, millions in ((sd15_layers(), 528, 9.4), (sdxl_layers(), 1444, 42.6)):
        parameters = [p for group in lora_groups(parts, device="meta") for p in group["params"]]
        assert len(parameters) == tensors
        assert sum(p.numel() for p in parameters) == pytest.approx(1e6 * millions, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_operations_do_not_grow_with_the_number_of_tensors(kind):
    """528 and 1,444 tensors take the same operations, at most 21 per group, and one synchronization.

    They are counted in two ways, ours and the profiler's.
    """
    small, large = (stepped(in_two_groups(parts()), **KINDS[kind]) for parts in (sd15_layers, sdxl_layers))
    operations, reads = count(small.step)
    operations_large, reads_large = count(large.step)
    assert operations == operations_large
    assert operations.total() <= 2 * OPERATIONS_A_GROUP
    assert reads == reads_large == 1
    assert not operations["aten._local_scalar_dense.default"]
    del operations, operations_large
    seen = profiled(small.step)
    seen_large = profiled(large.step)
    assert seen == seen_large
    assert 20 < len(seen) <= 2 * OPERATIONS_A_GROUP


def test_the_counters_see_what_dadaptation_does():
    """dadaptation takes 16 operations per tensor and more, and two synchronizations."""
    optimizer = reference_optimizer(lora_groups({"few": sd15_layers()["unet"][:10]}), **RECIPE)
    optimizer.step()
    operations, reads = count(optimizer.step)
    assert operations.total() >= 20 * 16
    assert reads == operations["aten._local_scalar_dense.default"] == 20 * 2


def test_with_d_frozen_a_step_has_fewer_operations():
    optimizer = stepped(in_two_groups(sd15_layers()))
    before, _ = count(optimizer.step)
    optimizer.freeze_d()
    optimizer.step()
    after, reads = count(optimizer.step)
    assert after.total() <= before.total() - 2 * 8
    assert reads == 1


def test_zero_grad_is_one_operation_per_group():
    optimizer = stepped(in_two_groups(sd15_layers()))
    operations, reads = count(optimizer.zero_grad)
    assert dict(operations) == {"aten.zero_.default": 2}
    assert reads == 0


def test_a_gradient_that_is_always_missing_costs_one_more_block_not_a_step_for_every_tensor():
    """The last layer of a text encoder that is read one layer before its end never has gradients."""
    optimizer = stepped(sd15_layers())
    for p in optimizer.param_groups[1]["params"][100:112]:
        p.grad = None
    optimizer.step()
    operations, reads = count(optimizer.step)
    assert operations.total() <= 3 * OPERATIONS_A_GROUP
    assert reads == 1


def test_nothing_is_allocated_in_a_step_but_one_scratch_tensor_and_one_number_per_group():
    optimizer = stepped(in_two_groups(sd15_layers()))
    operations, _ = count(optimizer.step)
    makers = {
        name: n
        for name, n in operations.items()
        if not any(mark in name for mark in (".out", "_out", "_.", "slice"))
    }
    assert makers == {"aten.empty.memory_format": 1, "aten.full.default": 2}
