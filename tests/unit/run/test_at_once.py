"""A batch may be computed in parts: by the setting, or because memory is short. The LoRA is the same."""

import weakref

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.distribution import Distribution
from comfyui_dadapt_lora.trainer.errors import TrainerError
from comfyui_dadapt_lora.trainer.objective.objective import Objective
from comfyui_dadapt_lora.trainer.objective.prediction import Prediction
from comfyui_dadapt_lora.trainer.run.events import HeldoutLoss, Notice, StepRecord, Unfinished
from comfyui_dadapt_lora.trainer.run.memory import is_out_of_memory
from comfyui_dadapt_lora.trainer.settings.objective import ObjectiveConfig

from tests.unit.run.resumable import Scaled
from tests.unit.toy import (
    FP32,
    ToyNetwork,
    adapters_of,
    of_kind,
    pictures,
    run,
    toy_grid,
    training,
    weights,
)

# 10 pictures in batches of 5: 2 at once make parts of 2, 2 and 1
SETTINGS = {"data": pictures(repeats=5), "batch_size": 5, "steps": 30, "growth_rate": 1.2}
ALL = ObjectiveConfig(
    noise_levels="logit-normal",
    loss="huber",
    weighting="min-SNR",
    noise_offset=0.1,
    multires_iterations=3,
    input_perturbation=0.1,
)
OBJECTIVES = {
    "plain": ObjectiveConfig(),
    "min-SNR": ObjectiveConfig(weighting="min-SNR"),
    "debiased": ObjectiveConfig(weighting="debiased"),
    "everything": ALL,
}


def trained(network=None, tell=None, **settings):
    """The LoRA, and each step's loss and gradient norm."""
    network, records = network or ToyNetwork(), []
    adapters = adapters_of(network)
    _, events = run(network, adapters, on_step=records.append, **(SETTINGS | settings))
    numbers = torch.tensor([[record.loss, record.gradient_norm] for record in records])
    return weights(adapters), numbers, events


def assert_same(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_parts_of_a_batch_give_the_lora_of_the_whole_batch(at_once, name):
    objective = Objective.of(OBJECTIVES[name], Distribution(), Prediction())
    whole, numbers, _ = trained(objective=objective)
    ours, own_numbers, _ = trained(objective=objective, pictures_at_once=at_once)
    assert_same(ours, whole)
    assert torch.allclose(own_numbers, numbers, rtol=1e-5)


def test_as_many_at_once_as_there_are_is_the_whole_batch_bit_for_bit():
    whole, _, _ = trained()
    for at_once in (5, 64):
        assert all(
            torch.equal(a, b) for a, b in zip(trained(pictures_at_once=at_once)[0], whole, strict=True)
        )


def test_parts_of_a_batch_under_a_loss_scale():
    whole, _, _ = trained()
    assert_same(trained(precision=Scaled(FP32.dtype, FP32.device), pictures_at_once=2)[0], whole)


def told_of_memory(events):
    return [notice for notice in of_kind(Notice, events) if "did not fit into memory" in notice.text]


class SmallMemory(ToyNetwork):
    """Runs out of memory where more than `most` pictures are computed at once, in the forward pass."""

    def __init__(self, most, error=torch.cuda.OutOfMemoryError, measuring=False):
        super().__init__()
        self.most, self.error, self.measuring = most, error, measuring
        self.seen = []  # how many pictures each pass was of

    def predict(self, noised, levels, conditioning):
        if torch.is_grad_enabled() != self.measuring:
            self.seen.append(len(noised))
            if len(noised) > self.most:
                raise self.error("CUDA out of memory. Tried to allocate 20.00 MiB")
        return super().predict(noised, levels, conditioning)


def test_a_step_that_does_not_fit_is_computed_in_parts_and_the_lora_is_the_same():
    """5 at once do not fit, and neither do 4: the next try is with 2, which stays for the rest of the run."""
    network, freed = SmallMemory(most=3), []
    ours, numbers, events = trained(network, free_memory=lambda: freed.append(len(network.seen)))
    whole, expected, _ = trained()
    assert_same(ours, whole)
    assert torch.allclose(numbers, expected, rtol=1e-5)
    assert network.seen == [5] + 30 * [2, 2, 1]
    assert freed == [1]
    (notice,) = told_of_memory(events)
    assert notice.step == 1 and "pictures_at_once to 2" in notice.text


class FullOnce(ToyNetwork):
    """Runs out of memory in the backward pass of one part of a batch, after it has made some gradients."""

    def __init__(self, part):
        super().__init__()
        self.part, self.parts = part, 0

    def predict(self, noised, levels, conditioning):
        output = super().predict(noised, levels, conditioning)
        if torch.is_grad_enabled():
            self.parts += 1
            if self.parts == self.part:
                conditioning.register_hook(self._full)
        return output

    def _full(self, gradient):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("part", [1, 2, 3, 32])
@pytest.mark.parametrize("preset", ["guide 2023", "AdamW"])
def test_gradients_of_an_attempt_that_failed_are_gone(part, preset):
    """Also in the first step, and those of parts that had succeeded."""
    settings = {"preset": preset, "growth_rate": 0.0}
    whole, _, _ = trained(**settings)
    ours, _, events = trained(FullOnce(part), pictures_at_once=2, **settings)
    assert_same(ours, whole)
    assert [notice.step for notice in told_of_memory(events)] == [(part + 2) // 3]


def test_no_frame_of_a_failed_attempt_is_alive_when_memory_is_freed():
    """An error holds the frames that it went through, and they hold the step's tensors."""
    network = SmallMemory(most=2)
    alive = []
    network.predict = tracked(network.predict, alive)
    trained(network, steps=1, free_memory=lambda: alive.append([ref() is not None for ref in alive]))
    assert alive[1] == [False]


def tracked(predict, references):
    def tracking(noised, levels, conditioning):
        if torch.is_grad_enabled() and not references:
            references.append(weakref.ref(noised))
        return predict(noised, levels, conditioning)

    return tracking


def test_one_picture_that_does_not_fit_ends_the_run_with_what_was_trained():
    network, events = SmallMemory(most=5), []
    adapters = adapters_of(network)

    def hear(event):
        events.append(event)
        if isinstance(event, StepRecord) and event.step == 3:
            network.most = 0

    with attached(adapters), pytest.raises(torch.cuda.OutOfMemoryError):
        training(network, adapters, tell=hear, **SETTINGS).run()
    assert network.seen[3:] == [5, 2, 1]
    (unfinished,) = of_kind(Unfinished, events)
    assert unfinished.lora.record.step == 3


def test_other_errors_are_not_tried_again():
    class Broken(Exception):
        pass

    network = SmallMemory(most=0, error=Broken)
    with pytest.raises(Broken):
        trained(network)
    assert network.seen == [5]


def test_errors_of_devices_without_a_class_of_their_own_are_known_by_their_words():
    full = [
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.00 GB)."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        torch.cuda.OutOfMemoryError(""),
    ]
    others = [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), TrainerError("out of memory")]
    assert [is_out_of_memory(error) for error in full + others] == 4 * [True] + 2 * [False]


def test_a_run_that_goes_on_keeps_the_smaller_number():
    network = SmallMemory(most=1)
    adapters = adapters_of(network)
    first = training(network, adapters, **SETTINGS)
    with attached(adapters):
        first.step()
    network = SmallMemory(most=1)
    adapters = adapters_of(network)
    second = training(network, adapters, **SETTINGS)
    second.load(first.state())
    with attached(adapters):
        second.step()
    assert network.seen == 5 * [1]


def test_a_measurement_that_does_not_fit_is_done_in_smaller_batches():
    losses = []
    for network in (ToyNetwork(), SmallMemory(most=3, measuring=True)):
        grid = toy_grid(network, samples=16)
        _, _, events = trained(network, steps=4, heldout=grid, measure_every=2)
        losses.append([measured.loss for measured in of_kind(HeldoutLoss, events)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert network.seen[:2] == [8, 4] and set(network.seen[2:10]) == {2}
