"""The training loop on a CPU, with nothing of ComfyUI."""

import json
import math

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapter import attached, new_adapter
from comfyui_dadapt_lora.trainer.errors import DivergedError
from comfyui_dadapt_lora.trainer.latents import LatentPicture
from comfyui_dadapt_lora.trainer.loop import total_steps, train
from comfyui_dadapt_lora.trainer.metrics import append_records
from comfyui_dadapt_lora.trainer.objective import HeldoutGrid
from comfyui_dadapt_lora.trainer.precision import Precision
from comfyui_dadapt_lora.trainer.recipe import OptimizerConfig, RunConfig

from tests.unit.toy import CHANNELS, ToyNetwork

FP32 = Precision(torch.float32, torch.device("cpu"))


def pictures():
    """Two flat pictures: what the toy has to learn is that the caption tells the colour."""
    return [
        LatentPicture(torch.full((CHANNELS, 4, 4), 1.5), "red"),
        LatentPicture(torch.full((CHANNELS, 4, 4), -1.5), "blue"),
    ]


def adapters_of(network, seed=0, dim=4):
    generator = torch.Generator().manual_seed(seed)
    return [
        new_adapter("unet_layer", "unet", network.unet_layer, dim, generator, network.device),
        new_adapter("text_layer", "text_encoder", network.text_layer, dim, generator, network.device),
    ]


def run(network, adapters, steps=10, seed=0, on_step=None, precision=FP32, **recipe):
    records = []
    with attached(adapters):
        result = train(
            network,
            pictures(),
            adapters,
            OptimizerConfig(**recipe),
            RunConfig(duration=steps, batch_size=2, seed=seed),
            precision,
            on_step or records.append,
        )
    return result, records


def weights(adapters):
    return [weight.detach().clone() for adapter in adapters for weight in (adapter.down, adapter.up)]


@pytest.mark.parametrize("implementation", ["reference", "fast"])
def test_a_toy_reaches_its_target(implementation):
    """The held-out loss falls by half, from d0 = 1e-6, with no rate set by anybody."""
    network = ToyNetwork()
    adapters = adapters_of(network)
    grid = HeldoutGrid.draw(pictures(), network.timesteps, torch.Generator().manual_seed(1), levels=64)
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
    """d * lr of a part is d, times the warmup's factor, times its speed: what AdamW would call its learning rate."""
    network = ToyNetwork()
    _, records = run(network, adapters_of(network), steps=20, warmup_percent=50.0)
    assert [record.step for record in records] == list(range(1, 21))
    assert [record.epoch for record in records] == list(range(1, 21))  # two pictures, batch 2
    for record in records:
        factor = min(1.0, record.step / 10)
        assert record.dlr_unet == pytest.approx(record.d * factor)
        assert record.dlr_text_encoder == pytest.approx(record.d * factor * 0.5)


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
    """Gives a loss that is not a number at some steps."""

    def __init__(self, calls):
        super().__init__()
        self.calls, self.count = calls, 0

    def predict(self, noised, timesteps, text):
        self.count += 1
        return super().predict(noised, timesteps, text) * (math.nan if self.count in self.calls else 1.0)


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


def test_text_encoder_at_half_speed_moves_half_as_far_at_equal_gradients():
    """With equal gradients and no decay the ratio of update sizes is 0.5 +- 1e-5, and there is one d."""
    from comfyui_dadapt_lora.trainer.optimizer import build_optimizer, current_d, set_learning_rate

    start = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    unet, text = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.0), {"unet": [unet], "text_encoder": [text]}, steps=200)
    generator = torch.Generator().manual_seed(1)
    for step in range(200):
        gradient = torch.randn(8, 8, generator=generator) + 1
        unet.grad, text.grad = gradient.clone(), gradient.clone()
        set_learning_rate(optimizer, min(1.0, (step + 1) / 20))
        before = unet.detach().clone(), text.detach().clone()
        optimizer.step()
        moved = [(b - a).detach().double().norm() for a, b in zip(before, (unet, text), strict=True)]
        assert len({group["d"] for group in optimizer.param_groups}) == 1
    assert current_d(optimizer) > 1e-4
    assert (moved[1] / moved[0]).item() == pytest.approx(0.5, abs=1e-5)


def test_epochs_count_every_picture_with_its_repeats():
    latents = [LatentPicture(torch.zeros(4, 4, 4), "red", repeats=3), LatentPicture(torch.zeros(4, 4, 6), "blue", repeats=2)]
    assert total_steps(RunConfig(duration=5, duration_unit="epochs", batch_size=2), latents) == 5 * (2 + 1)
    assert total_steps(RunConfig(duration=5, duration_unit="steps", batch_size=2), latents) == 5


def test_a_first_step_that_is_not_finite_can_be_written_down(tmp_path):
    """There is no average yet, and JSON has no NaN."""
    path = tmp_path / "steps.jsonl"
    network = NanAt({1})
    run(network, adapters_of(network), steps=3, on_step=lambda record: append_records(path, [record]))
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
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(results[0][1], results[1][1], strict=True))
