"""One training step: draw, forward, backward, and the optimizer where the numbers are finite."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..data.order import Batch, Order
from ..errors import DivergedError
from ..objective.network import Network
from ..objective.objective import Objective
from ..optim.base import Numbers, RunOptimizer
from ..precision import Precision
from ..seeds import uniform_of_step
from .work import Work

# Steps that are not finite before a run is given up; enough to halve an fp16 loss scale down to 1.
MOST_SKIPPED_IN_A_ROW = 20


class TrainingStep:
    """Does one step after the other, and counts those that were left out because a number was not finite."""

    def __init__(
        self,
        network: Network,
        order: Order,
        objective: Objective,
        optimizer: RunOptimizer,
        precision: Precision,
        seed: int,
    ) -> None:
        self.network = network
        self.order = order
        self.objective = objective
        self.optimizer = optimizer
        self.precision = precision
        self.seed = seed
        self.loss_scale = precision.loss_scale()
        self.skipped = 0
        self.skipped_in_a_row = 0

    @classmethod
    def of(cls, work: Work, optimizer: RunOptimizer) -> "TrainingStep":
        return cls(work.network, work.order, work.objective, optimizer, work.precision, work.run.seed)

    def __call__(self, step: int) -> tuple[Batch, Numbers]:
        """What step `step`, from 0, showed, and its numbers. Where they are not finite, nothing was changed.

        Raises `DivergedError` after many such steps in a row.
        """
        batch = self.order.batch(step)
        loss = self._backward(step, batch)
        self._unscale_gradients()
        numbers = self.optimizer.step(loss)
        self.loss_scale.after_step(numbers.finite)
        self.optimizer.zero_grad()
        self._count(numbers.finite)
        return batch, numbers

    def _backward(self, step: int, batch: Batch) -> Tensor:
        """Makes gradients of the scaled mean loss. Returns that loss unscaled, 0-dim, on the device."""
        network, objective = self.network, self.objective
        latents = batch.latents.to(network.device, non_blocking=True)
        noise = objective.noise.of_step(self.seed, step, latents.shape, network.device)
        u = objective.drawn.u(uniform_of_step(self.seed, step, len(latents)), latents.shape)
        levels = network.levels(u)
        with self.precision.autocast():
            loss = objective.loss(network, batch.pictures, latents, noise, levels)
        (loss * self.loss_scale.value).backward()
        return loss.detach()

    def _unscale_gradients(self) -> None:
        if self.loss_scale.value != 1:
            gradients = [p.grad for p in self.optimizer.parameters if p.grad is not None]
            torch._foreach_mul_(gradients, 1 / self.loss_scale.value)

    def _count(self, finite: bool) -> None:
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.skipped += not finite
        if self.skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
            raise DivergedError(
                f"{self.skipped_in_a_row} steps in a row gave a loss or gradient that is not finite. The LoRA"
                f" was left as it was before them. {not_finite_advice(self.precision)}"
            )

    def state(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "loss_scale": self.loss_scale.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.skipped = state["skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.loss_scale.load(state["loss_scale"])


def not_finite_advice(precision: Precision) -> str:
    """What to do about numbers that are not finite, for the precision in use."""
    look = (
        "Check that the model makes good pictures without the LoRA, and that its VAE is its own; lower the"
        " learning rate if it does."
    )
    if str(precision) == "fp32":
        return f"They are computed in fp32, so that no other precision helps. {look}"
    wider = "bf16 or fp32" if str(precision) == "fp16" else "fp32"
    return f"They are computed in {precision}: set precision to {wider} at Train. {look}"
