"""One training step: draw, forward, backward, and the optimizer where the numbers are finite."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..data.order import Batch
from ..errors import DivergedError
from ..optim.base import Numbers, RunOptimizer
from ..precision import Precision
from ..seeds import uniform_of_step
from .at_once import AtOnce
from .events import Event, Notice
from .work import Work

# Steps that are not finite before a run is given up; enough to halve an fp16 loss scale down to 1.
MOST_SKIPPED_IN_A_ROW = 20


class TrainingStep:
    """Does one step after the other, and counts those that were left out because a number was not finite."""

    def __init__(self, work: Work, optimizer: RunOptimizer, tell: Callable[[Event], None]) -> None:
        self.work = work
        self.optimizer = optimizer
        self.tell = tell
        self.loss_scale = work.precision.loss_scale()
        self.at_once = AtOnce(work.run.most_at_once)
        self.skipped = 0
        self.skipped_in_a_row = 0

    def __call__(self, step: int) -> tuple[Batch, Numbers]:
        """What step `step`, from 0, showed, and its numbers. Where they are not finite, nothing was changed.

        Raises `DivergedError` after many such steps in a row.
        """
        batch = self.work.order.batch(step)
        loss = self.at_once.fitting(
            len(batch.pictures),
            lambda at_once: self._backward(step, batch, at_once),
            before_again=lambda: self._make_room(step),
        )
        self._unscale_gradients()
        numbers = self.optimizer.step(loss)
        self.loss_scale.after_step(numbers.finite)
        self.optimizer.zero_grad()
        self._count(numbers.finite)
        return batch, numbers

    def _backward(self, step: int, batch: Batch, at_once: int) -> Tensor:
        """Makes gradients of the scaled mean loss, computing `at_once` pictures at a time.

        Returns that loss unscaled, 0-dim, on the device. What is drawn belongs to a place in the batch, so
        that both are the same however many pictures are computed at once.
        """
        network, objective, seed = self.work.network, self.work.objective, self.work.run.seed
        latents = batch.latents.to(network.device, non_blocking=True)
        to_find, added = objective.noise.of_step(seed, step, latents.shape, network.device)
        u = objective.drawn.u(uniform_of_step(seed, step, len(latents)), latents.shape)
        mean: Tensor | float = 0.0
        for start in range(0, len(latents), at_once):
            part = slice(start, start + at_once)
            pictures = batch.pictures[part]
            levels = network.levels(u[part])
            with self.work.precision.autocast():
                loss = objective.loss(network, pictures, latents[part], (to_find[part], added[part]), levels)
            of_batch = loss * (len(pictures) / len(latents))
            (of_batch * self.loss_scale.value).backward()
            mean = mean + of_batch.detach()
        return mean

    def _make_room(self, step: int) -> None:
        """Between an attempt at a step that ran out of memory and the next, with fewer pictures at once."""
        self.optimizer.zero_grad()
        self.work.free_memory()
        fewer = self.at_once.pictures
        self.tell(
            Notice(
                step + 1,
                f"this step did not fit into memory: it is computed again with {fewer} of its pictures at"
                " once, and so are the steps after it. That takes longer, and the LoRA is the same. Set"
                f" pictures_at_once to {fewer} at Train to begin like that",
            )
        )

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
                f" was left as it was before them. {not_finite_advice(self.work.precision)}"
            )

    def state(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "loss_scale": self.loss_scale.state(),
            "at_once": self.at_once.pictures,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.skipped = state["skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.loss_scale.load(state["loss_scale"])
        self.at_once.pictures = min(self.at_once.pictures, state["at_once"])


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
