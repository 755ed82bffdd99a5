"""The training loop on a CPU, with nothing of ComfyUI."""

import itertools
import json
import math

import pytest
import torch
from comfyui_dadapt_lora.benchmarks.optimizer import CountSynchronizations
from comfyui_dadapt_lora.trainer.adapters.file import lora_tensors
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.errors import DivergedError, SettingError
from comfyui_dadapt_lora.trainer.objective.grid import LossGrid
from comfyui_dadapt_lora.trainer.parts import UNET
from comfyui_dadapt_lora.trainer.precision import DTYPES, LossScale, Precision
from comfyui_dadapt_lora.trainer.record.folder import append_record
from comfyui_dadapt_lora.trainer.run import copies
from comfyui_dadapt_lora.trainer.run.events import (
    BestSoFar,
    Finished,
    HeldoutLoss,
    IntermediateLora,
    SafetyCopy,
    StepRecord,
    Unfinished,
)
from comfyui_dadapt_lora.trainer.run.step import not_finite_advice
from comfyui_dadapt_lora.trainer.settings.presets import PRESETS

from tests.unit.toy import (
    FP32,
    TEXT_ENCODER,
    ToyNetwork,
    adapters_of,
    measured,
    of_kind,
    pictures,
    run,
    toy_grid,
    training,
    weights,
)


@pytest.mark.parametrize("implementation", ["reference", "fast"])
def test_a_toy_reaches_its_target(implementation):
    """The held-out loss falls by half, from d0 = 1e-6, with no rate set by anybody."""
    network = ToyNetwork()
    adapters = adapters_of(network)
    grid = LossGrid.draw(pictures(), torch.Generator().manual_seed(1), samples=128)
    with attached(adapters):
        before = grid.loss(network)
    result, _ = run(network, adapters, steps=400, implementation=implementation)
    with attached(adapters):
        after = grid.loss(network)
    assert after < 0.5 * before
    assert result.d_last > 100 * result.d_first == 100 * 1e-6


def test_base_weights_and_modules_are_left_as_they_were():
    network = ToyNetwork()
    before = network.unet_layer.weight.clone()
    run(network, adapters_of(network))
    assert torch.equal(network.unet_layer.weight, before)
    assert network.unet_layer.weight.grad is None
    assert not network.unet_layer._forward_hooks
    assert not network.text_layer._forward_hooks


def test_the_same_seed_gives_the_same_lora_bit_for_bit_and_another_seed_another():
    results = []
    for seed in (3, 3, 4):
        network = ToyNetwork()
        adapters = adapters_of(network)
        run(network, adapters, seed=seed)
        results.append(weights(adapters))
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(results[0], results[2], strict=True))


def test_records_count_steps_and_tell_the_rates():
    """d * lr of a part is d, times the warmup's factor, times its speed: what AdamW would call its learning
    rate.
    """
    network = ToyNetwork()
    _, events = run(network, adapters_of(network), steps=20, warmup_percent=50.0)
    records = of_kind(StepRecord, events)
    assert [record.step for record in records] == list(range(1, 21))
    assert [record.epoch for record in records] == list(range(1, 21))  # two pictures, batch 2
    for record in records:
        factor = min(1.0, record.step / 10)
        assert record.dlr[UNET] == pytest.approx(record.d * factor)
        assert record.dlr[TEXT_ENCODER] == pytest.approx(record.d * factor * 0.5)


def test_raising_in_the_callback_stops_the_run_and_keeps_what_was_trained():
    class Stopped(Exception):
        pass

    def stop_at_5(record):
        if record.step == 5:
            raise Stopped

    network = ToyNetwork()
    adapters = adapters_of(network)
    with pytest.raises(Stopped):
        run(network, adapters, on_step=stop_at_5)
    stopped = weights(adapters)
    assert stopped[1].abs().sum() > 0  # up matrices start at zero
    assert not network.unet_layer._forward_hooks

    network = ToyNetwork()
    adapters = adapters_of(network)
    seen = []
    run(network, adapters, on_step=lambda record: seen.append(weights(adapters)))
    assert all(torch.equal(a, b) for a, b in zip(stopped, seen[4], strict=True))


class NanAt(ToyNetwork):
    """Gives a loss that is not a number at some steps; measurements, which need no gradient, are not
    counted.
    """

    def __init__(self, calls):
        super().__init__()
        self.calls, self.count = calls, 0

    def predict(self, noised, levels, conditioning):
        self.count += torch.is_grad_enabled()
        return super().predict(noised, levels, conditioning) * (
            math.nan if torch.is_grad_enabled() and self.count in self.calls else 1.0
        )


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted():
    network = NanAt({4})
    adapters = adapters_of(network)
    seen = []
    result, _ = run(network, adapters, on_step=lambda record: seen.append((record, weights(adapters))))
    assert result.skipped_steps == 1
    assert seen[3][0].loss is None and seen[3][0].gradient_norm is None
    assert all(torch.equal(a, b) for a, b in zip(seen[2][1], seen[3][1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(seen[3][1], seen[4][1], strict=True))
    assert seen[4][0].d == seen[3][0].d


def test_numbers_that_stay_not_finite_stop_the_run_with_the_last_good_lora():
    network = NanAt(set(range(6, 1000)))
    adapters = adapters_of(network)
    seen = []
    with pytest.raises(DivergedError, match="not finite"):
        run(network, adapters, steps=100, on_step=lambda record: seen.append(weights(adapters)))
    assert all(torch.equal(a, b) for a, b in zip(seen[4], weights(adapters), strict=True))


def test_a_run_without_one_finite_step_is_an_error():
    """Also one that is too short for the limit on steps in a row."""
    network = NanAt(set(range(1, 1000)))
    events = []
    adapters = adapters_of(network)
    untrained = training(network, adapters, steps=5, tell=events.append)
    expected = r"None of the 5 steps gave a finite .* computed in fp32"
    with attached(adapters), pytest.raises(DivergedError, match=expected):
        untrained.run()
    assert of_kind(Finished, events) == []
    (unfinished,) = of_kind(Unfinished, events)
    assert unfinished.lora is None


def test_the_advice_on_numbers_that_are_not_finite_fits_the_precision():
    """Nobody who trains in fp32 is told to set fp32."""
    advice = {name: not_finite_advice(Precision(dtype, FP32.device)) for name, dtype in DTYPES.items()}
    assert "set precision to bf16 or fp32" in advice["fp16"]
    assert "set precision to fp32" in advice["bf16"]
    assert "set precision" not in advice["fp32"]


class Scaled(Precision):
    """fp32 with a loss scale, as fp16 has one: a power of two, so that it must leave no trace."""

    def loss_scale(self):
        return LossScale(value=2.0**14)


@pytest.mark.parametrize("preset", ["guide 2023", "AdamW", "Prodigy"])
def test_the_loss_scale_leaves_no_trace_in_what_the_optimizer_gets(preset):
    """Adam hardly sees the size of a gradient, but its norm in the records does, and d does."""
    runs = []
    for precision in (FP32, Scaled(FP32.dtype, FP32.device)):
        network = ToyNetwork()
        adapters = adapters_of(network)
        result, events = run(network, adapters, steps=20, precision=precision, preset=preset)
        norms = [record.gradient_norm for record in of_kind(StepRecord, events)]
        runs.append((result.d_last, norms, weights(adapters)))
    assert runs[0][:2] == runs[1][:2]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][2], runs[1][2], strict=True))


def test_a_first_step_that_is_not_finite_can_be_written_down(tmp_path):
    """There is no average yet, and JSON has no NaN."""
    path = tmp_path / "steps.jsonl"
    network = NanAt({1})
    run(network, adapters_of(network), steps=3, on_step=lambda record: append_record(path, record))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["loss_average"] is None for row in rows] == [True, False, False]


def test_both_implementations_train_the_same_lora():
    """Over 100 steps, to what fp32 sums in another order allow."""
    results = []
    for implementation in ("reference", "fast"):
        network = ToyNetwork()
        adapters = adapters_of(network)
        result, _ = run(network, adapters, steps=100, implementation=implementation)
        results.append((result.d_last, weights(adapters)))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-4)
    assert all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(results[0][1], results[1][1], strict=True)
    )


# what is output ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_measured_is_what_is_output(preset):
    """Also where the optimizer averages: the last measurement is that of the weights that the adapters end
    with.
    """
    network = ToyNetwork()
    adapters = adapters_of(network)
    grid = toy_grid(network)
    settings = {"ema": 0.9} if "ema" in PRESETS[preset].fields else {}
    _, events = run(network, adapters, steps=50, heldout=grid, measure_every=7, preset=preset, **settings)
    losses = of_kind(HeldoutLoss, events)
    assert [loss.step for loss in losses] == [0, 7, 14, 21, 28, 35, 42, 49, 50]
    assert losses[-1].loss == pytest.approx(measured(network, adapters, grid), rel=1e-5)
    best = min(losses[1:], key=lambda loss: loss.loss)
    kept = of_kind(BestSoFar, events)[-1].lora
    assert kept.record.step == best.step
    load(adapters, kept.tensors)
    assert measured(network, adapters, grid) == pytest.approx(best.loss, rel=1e-5)


def load(adapters, tensors):
    for adapter in adapters:
        for kind, weight in (("lora_down", adapter.down), ("lora_up", adapter.up)):
            weight.data.copy_(tensors[f"{adapter.name}.{kind}.weight"].reshape(weight.shape))


def test_measuring_and_saving_in_between_change_nothing():
    ends = []
    for settings in ({}, {"measure_every": 5, "save_every": 3}):
        network = ToyNetwork()
        adapters = adapters_of(network)
        run(network, adapters, steps=30, heldout=toy_grid(network) if settings else None, ema=0.9, **settings)
        ends.append(weights(adapters))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_intermediate_loras_are_those_of_their_steps():
    network = ToyNetwork()
    adapters = adapters_of(network)
    seen = {}
    hear = lambda record: seen.update({record.step: lora_tensors(adapters)})  # noqa: E731
    _, events = run(network, adapters, steps=10, save_every=4, on_step=hear)
    kept = [event.lora for event in of_kind(IntermediateLora, events)]
    assert [lora.record.step for lora in kept] == [4, 8]
    for lora in kept:
        assert all(torch.equal(tensor, seen[lora.record.step][name]) for name, tensor in lora.tensors.items())


def test_a_safety_copy_now_and_then_is_what_would_be_output(monkeypatch):
    """Of a run whose every step takes long enough for one."""
    network = ToyNetwork()
    adapters = adapters_of(network)
    monkeypatch.setattr(copies, "SAFETY_SECONDS", 0.0)
    _, events = run(network, adapters, steps=10, ema=0.9, save_every=4)
    made = {event.lora.record.step: event.lora for event in of_kind(SafetyCopy, events)}
    assert list(made) == list(range(1, 11))
    for event in of_kind(IntermediateLora, events):
        same = made[event.lora.record.step].tensors
        assert all(torch.equal(tensor, same[name]) for name, tensor in event.lora.tensors.items())


def test_a_run_of_a_minute_makes_no_safety_copy():
    network = ToyNetwork()
    _, events = run(network, adapters_of(network), steps=10)
    assert of_kind(SafetyCopy, events) == []


def test_ema_outputs_the_average_of_the_steps():
    """Against the average formed here, from the weights after each step: the plain mean at first, then
    exponential.
    """
    network = ToyNetwork()
    adapters = adapters_of(network)
    seen = []
    run(network, adapters, steps=40, ema=0.9, on_step=lambda record: seen.append(weights(adapters)))
    expected = seen[0]
    for number, step in enumerate(seen[1:], start=2):
        share = max(0.1, 1 / number)
        expected = [(1 - share) * a + share * b for a, b in zip(expected, step, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(expected, weights(adapters), strict=True))
    assert not torch.allclose(expected[1], seen[-1][1], atol=1e-7)


def test_a_cancel_leaves_the_average_too():
    class Stopped(Exception):
        pass

    def stop_at_20(record):
        if record.step == 20:
            raise Stopped

    ends = []
    for cancelled in (True, False):
        network = ToyNetwork()
        adapters = adapters_of(network)
        if cancelled:
            with pytest.raises(Stopped):
                run(network, adapters, steps=40, ema=0.9, on_step=stop_at_20, growth_rate=1.3)
        else:
            _, events = run(network, adapters, steps=40, ema=0.9, save_every=20, growth_rate=1.3)
            load(adapters, of_kind(IntermediateLora, events)[0].lora.tensors)
        ends.append(weights(adapters))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*ends, strict=True))


def test_the_adapters_share_no_memory_after_a_run():
    """A LoRA that somebody keeps must not keep the optimizer's buffers."""
    network = ToyNetwork()
    adapters = adapters_of(network)
    run(network, adapters)
    for weight in (weight for adapter in adapters for weight in (adapter.down, adapter.up)):
        assert weight.untyped_storage().nbytes() == weight.numel() * 4
        assert weight.grad is None


# a part of the run ------------------------------------------------------------------------------------------


def test_a_part_that_stops_does_not_move_after_its_share_and_its_rate_is_gone():
    network = ToyNetwork()
    adapters = adapters_of(network)
    seen = []
    run(
        network,
        adapters,
        steps=40,
        stop_text_encoder_percent=50.0,
        on_step=lambda record: seen.append((record, weights(adapters))),
    )
    at_stop, end = seen[19][1], seen[39][1]
    assert all(torch.equal(a, b) for a, b in zip(at_stop[2:], end[2:], strict=True))
    assert not torch.equal(at_stop[1], end[1])
    assert [record.dlr[TEXT_ENCODER] is None for record, _ in seen] == [False] * 20 + [True] * 20
    assert not torch.equal(seen[18][1][3], at_stop[3])


def test_a_run_in_which_nothing_trains_to_the_end_is_refused():
    """Also where the part that would is not trained at all."""
    network = ToyNetwork()
    with pytest.raises(SettingError, match="every part stops before it"):
        run(network, adapters_of(network)[1:], stop_text_encoder_percent=50.0)


def test_d_that_is_frozen_stays():
    network = ToyNetwork()
    _, events = run(network, adapters_of(network), steps=40, freeze_d_percent=50.0, growth_rate=1.2)
    d = [record.d for record in of_kind(StepRecord, events)]
    assert d[18] < d[20] == d[39]


def test_d_stays_below_its_cap():
    network = ToyNetwork()
    _, events = run(network, adapters_of(network), steps=60, d_cap=1e-4, growth_rate=2.0)
    assert max(record.d for record in of_kind(StepRecord, events)) == 1e-4


def test_adamw_reports_its_rate_and_no_d():
    network = ToyNetwork()
    result, events = run(network, adapters_of(network), steps=20, preset="AdamW", adamw_rate=1e-3)
    last = of_kind(StepRecord, events)[-1]
    assert (last.d, last.dlr) == (None, {UNET: 1e-3, TEXT_ENCODER: 5e-4})
    assert result.d_first is result.d_last is None


def test_a_step_waits_for_the_device_once():
    """Loss, gradient norm and the sums behind d come in one read; only the ten sampled steps, which measure
    updates, read more.
    """
    network = ToyNetwork()
    counted, seen = CountSynchronizations(), []
    with counted:
        data = pictures(repeats=40)  # one epoch: the order of each is drawn on the host
        run(
            network,
            adapters_of(network),
            steps=40,
            data=data,
            burn_guard=False,
            on_step=lambda record: seen.append(counted.count),
        )
    reads = [later - earlier for earlier, later in itertools.pairwise(seen)]
    assert min(reads) == 1
    assert reads.count(1) >= 29
