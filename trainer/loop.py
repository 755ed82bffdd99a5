"""The training loop: batches in, LoRA parameters changed in place, one record a step out through a callback.

Nothing here knows where the model lives or who is watching. The caller attaches the adapters, owns them before, during and after, and
stops the loop by raising from the callback: what has been trained until then is in the adapters.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .adapter import LoraAdapter
from .errors import DivergedError
from .latents import Batch, LatentPicture, batches_per_epoch, epochs
from .metrics import RunningAverage, StepRecord
from .objective import Network, losses
from .optimizer import build_optimizer, current_d, set_learning_rate
from .precision import Precision, gradient_norm
from .recipe import OptimizerConfig, RunConfig
from .schedule import constant_with_warmup, warmup_steps
from .seeds import Generators
from .updates import UpdateRatio

MOST_SKIPPED_IN_A_ROW = 20  # steps that are not finite before a run is given up; enough to halve an fp16 loss scale down to 1


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run says of itself."""

    steps: int
    skipped_steps: int  # not finite, and left out whole
    d_first: float  # d of the first step
    d_last: float
    update_ratio: float | None  # size of the text encoder's updates over the UNet's, a value; None when one part trains
    seconds: float


def total_steps(run: RunConfig, pictures: Sequence[LatentPicture]) -> int:
    """Length of the run in steps."""
    if run.duration_unit == "steps":
        return run.duration
    return run.duration * batches_per_epoch(pictures, run.batch_size)


def train(
    network: Network,
    pictures: Sequence[LatentPicture],
    adapters: Sequence[LoraAdapter],
    recipe: OptimizerConfig,
    run: RunConfig,
    precision: Precision,
    on_step: Callable[[StepRecord], None],
) -> TrainingResult:
    """Trains `adapters`, which are attached to `network`, and calls `on_step` after each step.

    Raises `DivergedError` when the numbers stay not finite; the adapters then hold the last good state.
    """
    parts = parameters_by_part(adapters)
    steps = total_steps(run, pictures)
    optimizer = build_optimizer(recipe, parts, steps)
    generators = Generators.seeded(run.seed)
    warmup = warmup_steps(steps, recipe.warmup_percent)
    batches = epochs(pictures, run.batch_size, generators.order)
    step_once = _Step(network, optimizer, precision, generators)
    average, update_ratio = RunningAverage(), UpdateRatio(parts, steps)
    d_first, began = current_d(optimizer), time.perf_counter()
    for step in range(steps):
        d, rate = current_d(optimizer), recipe.learning_rate * constant_with_warmup(step, warmup)
        set_learning_rate(optimizer, rate)
        batch = next(batches)
        with update_ratio.watching(step):
            loss, norm = step_once(batch)
        if loss is not None:
            average.update(loss)
        on_step(
            StepRecord(
                step=step + 1,
                epoch=batch.epoch,
                loss=loss,
                loss_average=average.value,
                d=d,
                dlr_unet=d * rate * recipe.unet if "unet" in parts else None,
                dlr_text_encoder=d * rate * recipe.text_encoder if "text_encoder" in parts else None,
                gradient_norm=norm,
                seconds=time.perf_counter() - began,
            )
        )
    return TrainingResult(
        steps, step_once.skipped, d_first, current_d(optimizer), update_ratio.value, time.perf_counter() - began
    )


def parameters_by_part(adapters: Sequence[LoraAdapter]) -> Mapping[str, list[nn.Parameter]]:
    """The parameters of each part that has adapters, down before up."""
    parts: dict[str, list[nn.Parameter]] = {}
    for adapter in adapters:
        parts.setdefault(adapter.part, []).extend((adapter.down, adapter.up))
    return parts


class _Step:
    """One step after the other: forward, backward, and the optimizer where the numbers are finite."""

    def __init__(
        self, network: Network, optimizer: torch.optim.Optimizer, precision: Precision, generators: Generators
    ) -> None:
        self.network, self.optimizer, self.precision, self.generators = network, optimizer, precision, generators
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.loss_scale = precision.loss_scale()
        self.skipped = self.skipped_in_a_row = 0

    def __call__(self, batch: Batch) -> tuple[float | None, float | None]:
        """Loss and gradient norm of the step, or None and None when one was not finite and nothing was changed."""
        loss = self._backward(batch)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self.loss_scale.value != 1:
            torch._foreach_mul_(gradients, 1 / self.loss_scale.value)
        loss, norm = torch.stack((loss, gradient_norm(gradients, loss.device))).tolist()  # the loop's one wait for the device
        finite = math.isfinite(loss) and math.isfinite(norm)
        self.loss_scale.after_step(finite)
        if finite:
            self.optimizer.step()
        self._count(finite)
        self.optimizer.zero_grad()
        return (loss, norm) if finite else (None, None)

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the scaled mean loss; gives that loss, unscaled, as a 0-d tensor on the device."""
        device, generators = self.network.device, self.generators
        latents = batch.latents
        noise = torch.randn(latents.shape, generator=generators.noise)
        timesteps = torch.randint(self.network.timesteps, (len(latents),), generator=generators.timesteps)
        with self.precision.autocast():
            loss = losses(self.network, latents.to(device), batch.captions, noise.to(device), timesteps.to(device)).mean()
        (loss * self.loss_scale.value).backward()
        return loss.detach()

    def _count(self, finite: bool) -> None:
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.skipped += not finite
        if self.skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
            raise DivergedError(
                f"{self.skipped_in_a_row} steps in a row gave a loss or gradient that is not finite ({self.precision}). The LoRA was "
                "left as it was before them. Set precision to bf16 or fp32 at Train, or check that the model makes good pictures."
            )
