"""Runs with everything that can be lost, for tests of going on with them."""

import torch
from comfyui_dadapt_lora.trainer.distribution import Distribution
from comfyui_dadapt_lora.trainer.objective.objective import Objective
from comfyui_dadapt_lora.trainer.objective.prediction import Prediction
from comfyui_dadapt_lora.trainer.precision import LossScale, Precision
from comfyui_dadapt_lora.trainer.settings.objective import ObjectiveConfig

from tests.unit.run.burning import Brittle
from tests.unit.toy import FP32, ToyNetwork, adapters_of, toy_grid, training

STEPS = 40


class Scaled(Precision):
    """fp32 with a loss scale that changes often."""

    def loss_scale(self):
        return LossScale(value=2.0**14, patience=3)


class SkipsSome(ToyNetwork):
    """Gives no number for about a sixth of the steps: those that happen to begin with much noise."""

    def predict(self, noised, levels, conditioning):
        predicted = super().predict(noised, levels, conditioning)
        skips = torch.is_grad_enabled() and levels.sigmas[0] > 2.2
        return predicted * float("nan") if skips else predicted


NETWORKS = {"brittle": Brittle, "skips some": SkipsSome}


def begun(settings, tell=None):
    """A run with held-out pictures, which saves and measures on its way."""
    settings = dict(settings)
    network = NETWORKS.get(settings.pop("network", ""), ToyNetwork)()
    scaled = settings.pop("scaled", False)
    chosen = ObjectiveConfig(**settings.pop("objective", {}))
    adapters = adapters_of(network, dim=settings.pop("dim", 4))
    one = training(
        network,
        adapters,
        steps=STEPS,
        seed=5,
        heldout=toy_grid(network, samples=16),
        measure_every=10,
        save_every=7,
        precision=Scaled(FP32.dtype, FP32.device) if scaled else FP32,
        tell=tell,
        objective=Objective.of(chosen, Distribution(), Prediction()),
        **settings,
    )
    return one, adapters
