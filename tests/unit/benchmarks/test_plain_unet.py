"""The network of benchmarks/plain_unet.py has SD 1.5's sizes, and a LoRA learns on it."""

from collections import Counter

import pytest
import torch
from comfyui_dadapt_lora.benchmarks.optimizer import CountOperations, sd15_layers
from comfyui_dadapt_lora.benchmarks.plain_unet import PlainNetwork, Sizes
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.objective.grid import LossGrid
from comfyui_dadapt_lora.trainer.objective.loss import losses
from comfyui_dadapt_lora.trainer.run.events import StepRecord
from comfyui_dadapt_lora.trainer.run.plan import Plan
from comfyui_dadapt_lora.trainer.run.training import Training
from comfyui_dadapt_lora.trainer.run.work import Work
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
from comfyui_dadapt_lora.trainer.settings.run import RunConfig

from tests.unit.toy import FP32

UNET_PARAMETERS = 859_520_964  # of the published checkpoint, as are the text encoder's
TEXT_PARAMETERS = 123_060_480
TINY = Sizes(
    width=16,
    multipliers=(1, 2),
    res_blocks=1,
    heads=2,
    text_width=16,
    text_layers=2,
    text_heads=2,
    tokens=8,
    vocabulary=64,
)


@pytest.fixture(scope="module")
def sd15():
    """On the meta device: shapes without values."""
    return PlainNetwork(Sizes(), "meta")


@pytest.fixture(scope="module")
def tiny():
    return PlainNetwork(TINY)


def pictures(count):
    generator = torch.Generator().manual_seed(0)
    return [
        LatentPicture(torch.randn(4, 8, 8, generator=generator), f"picture {place}") for place in range(count)
    ]


def trained(network, adapters, data, steps, on_event, **recipe):
    with attached(adapters):
        run = RunConfig(duration=steps, batch_size=4)
        work = Work(network, adapters, data, OptimizerConfig(**recipe), run, FP32)
        Training.of(work, Plan.of(work), on_event).run()


def test_full_size_has_sd15s_parameters(sd15):
    assert sum(p.numel() for p in sd15.unet.parameters()) == UNET_PARAMETERS
    assert sum(p.numel() for p in sd15.text_encoder.parameters()) == TEXT_PARAMETERS


def test_the_layers_that_a_lora_adapts_are_sd15s(sd15):
    """They are 192 in the UNet and 72 in the text encoder, in the shapes of benchmarks/optimizer.py."""
    for part, expected in sd15_layers().items():
        shapes = [tuple(module.weight.shape[:2]) for _, of_part, module in sd15.layers() if of_part == part]
        assert len(shapes) == {"unet": 192, "clip_l": 72}[part]
        assert Counter(shapes) == Counter(expected)


@pytest.mark.parametrize("times", (1, 2, 4, 8))
def test_a_narrower_or_deeper_network_has_the_same_kinds_of_layers(times):
    assert len(PlainNetwork(Sizes.narrower(times), "meta").layers()) == 264
    assert len(PlainNetwork(Sizes.narrower(times, depth=3), "meta").layers()) == 264 + 2 * 16 * 10


def test_the_same_seed_gives_the_same_network_and_another_seed_another(tiny):
    weights, again, other = (
        torch.cat([p.flatten() for p in network.unet.parameters()])
        for network in (tiny, PlainNetwork(TINY), PlainNetwork(TINY, seed=1))
    )
    assert torch.equal(weights, again)
    assert not torch.equal(weights, other)


def test_noise_grows_with_the_timestep_and_keeps_the_variance(tiny):
    latents, noise = torch.randn(2, 1000, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noised = tiny.levels((torch.arange(1000) + 0.5) / 1000).noised(latents, noise)
    shares = (noised * noise).mean(dim=(1, 2, 3))
    assert shares[:100].mean() < 0.3 < 0.9 < shares[900:].mean()
    assert noised.var() == pytest.approx(1, abs=0.02)


def test_gradients_reach_every_layer(tiny):
    """up gets one from the start, down as soon as up is not zero."""
    adapters = tiny.new_adapters(dim=2)
    with torch.no_grad():
        for adapter in adapters:
            adapter.up.normal_(generator=torch.Generator().manual_seed(0))
    batch = pictures(2)
    latents = torch.stack([picture.latent for picture in batch])
    with attached(adapters):
        losses(
            tiny,
            batch,
            latents,
            torch.randn_like(latents),
            tiny.levels(torch.tensor([0.1, 0.9])),
        ).sum().backward()
    assert len(adapters) == len(tiny.layers()) > 60
    without = [
        adapter.name
        for adapter in adapters
        for p in (adapter.down, adapter.up)
        if p.grad is None or not p.grad.any()
    ]
    assert without == []
    assert all(p.grad is None for model in (tiny.unet, tiny.text_encoder) for p in model.parameters())


def test_a_lora_on_it_learns(tiny):
    """An untrained network predicts nearly nothing, a loss of 1: the noise itself is easily learned."""
    adapters = tiny.new_adapters(dim=4)
    data = pictures(4)
    grid = LossGrid.draw(data, torch.Generator().manual_seed(1))
    before = grid.loss(tiny)
    trained(tiny, adapters, data, 60, lambda event: None, preset="AdamW", adamw_rate=0.01)
    with attached(adapters):
        assert grid.loss(tiny) < 0.9 * before


class CountShapes(CountOperations):
    """Counts every tensor operation by its name and the shapes of its inputs.

    The shapes show where one operation works on all the data.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        shapes = [
            tuple(t.shape)
            for given in args
            for t in (given if isinstance(given, list | tuple) else [given])
            if torch.is_tensor(t)
        ]
        self.counts[f"{func} {shapes}"] += 1
        return func(*args, **(kwargs or {}))


def operations_of_steps(network, count, steps):
    """The operations of each step of a run on `count` pictures."""
    counted = []

    def hear(event):
        if isinstance(event, StepRecord):
            counted.append(Counter(operations.counts))
            operations.counts.clear()

    with CountShapes() as operations:
        trained(network, network.new_adapters(dim=2), pictures(count), steps, hear, burn_guard=False)
    return counted


def test_a_step_works_on_as_much_with_10_000_pictures_as_with_12(tiny):
    """Every step that does not begin an epoch has the same operations on tensors of the same shapes."""
    few, many = (operations_of_steps(tiny, count, steps=3) for count in (12, 10_000))
    assert few[1:] == many[1:]
    assert few[2].total() > 1000
