"""The training loop: batches in, LoRA parameters changed in place, what happens out through one callback.

Nothing here knows where the model lives or who is watching. The caller attaches the adapters, owns them
before, during and after, and stops the loop by raising from the callback: what has been trained until then is
in the adapters.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.file import lora_tensors
from ..adapters.lora import LoraAdapter
from ..data.latents import LatentPicture
from ..data.order import Batch, batches_per_epoch, epochs
from ..errors import DivergedError
from ..objective.grid import LossGrid
from ..objective.loss import losses
from ..objective.network import Network
from ..optim.averaging import WeightAverage
from ..optim.base import Numbers, RunOptimizer
from ..optim.registry import build_optimizer
from ..optim.updates import UpdateSizes
from ..precision import Precision
from ..settings.optimizer import NEVER_FROZEN, NO_EMA, TO_THE_END, OptimizerConfig
from ..settings.run import RunConfig
from ..settings.schedule import rate_factor, warmup_steps
from .advice import Advice
from .burn_guard import SAMPLES, BurnGuard
from .events import (
    BestSoFar,
    Event,
    HeldoutLoss,
    KeptLora,
    Measuring,
    Notice,
    SafetyCopy,
    SavedOnTheWay,
    StepRecord,
)
from .heldout import best_of, measured_steps
from .loss_average import RunningAverage
from .memory import peak_memory_mb, start_of_peak
from .result import TrainingResult
from .seeds import Generators

MOST_SKIPPED_IN_A_ROW = (
    20  # steps that are not finite before a run is given up; enough to halve an fp16 loss scale down to 1
)
SAFETY_SECONDS = 300.0  # between two safety copies


def total_steps(run: RunConfig, pictures: Sequence[LatentPicture]) -> int:
    """Length of the run in steps."""
    return run.duration * _steps_per_unit(run, pictures)


def train(
    network: Network,
    pictures: Sequence[LatentPicture],
    adapters: Sequence[LoraAdapter],
    recipe: OptimizerConfig,
    run: RunConfig,
    precision: Precision,
    on_event: Callable[[Event], None],
    heldout: LossGrid | None = None,
) -> TrainingResult:
    """Trains `adapters`, which are attached to `network`. Calls `on_event` after each step, and for what
    happens between steps.

    However it ends, the adapters hold what is to be handed on: the weights of the last step, or their average
    where the recipe averages. At the end of a whole run the burn guard has looked at them; where an error or
    a cancel ends it, last some steps before. Raises `SettingError` for a recipe that trains nothing to the
    end, and `DivergedError` when the numbers stay not finite or the LoRA burns again and again.
    """
    training = _Training(network, pictures, adapters, recipe, run, precision, on_event, heldout)
    with training.handed_on_at_the_end():
        return training.run_all()


def parameters_by_part(adapters: Sequence[LoraAdapter]) -> Mapping[str, list[nn.Parameter]]:
    """The parameters of each part that has adapters, down before up."""
    parts: dict[str, list[nn.Parameter]] = {}
    for adapter in adapters:
        parts.setdefault(adapter.part, []).extend((adapter.down, adapter.up))
    return parts


class _Training:
    """One run from its first step to its last."""

    def __init__(
        self,
        network: Network,
        pictures: Sequence[LatentPicture],
        adapters: Sequence[LoraAdapter],
        recipe: OptimizerConfig,
        run: RunConfig,
        precision: Precision,
        on_event: Callable[[Event], None],
        heldout: LossGrid | None,
    ) -> None:
        self.network, self.adapters, self.precision, self.on_event = network, adapters, precision, on_event
        self.recipe, self.heldout = recipe.resolved(), heldout
        self.steps = total_steps(run, pictures)
        self.warmup = warmup_steps(self.steps, self.recipe.warmup_percent)
        parts = parameters_by_part(adapters)
        self.recipe.refuse_stopping(parts)
        self.freezes = (
            _step_at(self.recipe.freeze_d_percent, self.steps)
            if self.recipe.freeze_d_percent != NEVER_FROZEN
            else None
        )
        self.stops = _stops(self.recipe, parts, self.steps)
        self.optimizer = build_optimizer(recipe, parts, self.steps)
        self.average = (
            None if self.recipe.ema == NO_EMA else WeightAverage(self.optimizer.parameters, self.recipe.ema)
        )
        generators = Generators.seeded(run.seed, network.device)
        self.batches = epochs(pictures, run.batch_size, generators.order)
        self.step_once = _Step(network, self.optimizer, precision, generators)
        self.updates = UpdateSizes(parts, self.steps)
        self.advice = Advice(self.recipe, self.steps)
        self.loss_average = RunningAverage()
        self.heldout_losses: list[HeldoutLoss] = []
        self.measured = (
            measured_steps(self.steps, run.batch_size, len(heldout.pictures), run.measure_every)
            if heldout
            else set()
        )
        self.save_every = run.save_every * _steps_per_unit(run, pictures)
        self._copied = 0.0  # seconds of the run at the last safety copy
        self.probe = (
            LossGrid.draw(pictures, network.timesteps, generators.probe, SAMPLES)
            if self.recipe.burn_guard
            else None
        )

    def run_all(self) -> TrainingResult:
        start_of_peak(self.network.device)
        if self.heldout:
            self._measure(None)
        guard = (
            BurnGuard(self.optimizer, self._probe_loss, self._snapshot, self._restore, self.on_event)
            if self.probe
            else None
        )
        d_first, began = self.optimizer.d, time.perf_counter()
        for step in range(self.steps):
            record = self._step(step, began)
            self.on_event(record)
            if guard:
                guard.after_step(
                    record.step, self.step_once.skipped_in_a_row, is_last=record.step == self.steps
                )
            self._between_steps(record)
        self._tell(self.advice.at_end(self.optimizer.d, self.updates.share))
        return TrainingResult(
            steps=self.steps,
            skipped_steps=self.step_once.skipped,
            d_first=d_first,
            d_last=self.optimizer.d,
            update_ratio=self.updates.ratio,
            update_share=self.updates.share,
            burns=tuple(guard.burns) if guard else (),
            seconds=time.perf_counter() - began,
        )

    @contextmanager
    def handed_on_at_the_end(self) -> Iterator[None]:
        """However the block ends, the adapters hold what is to be handed on, in tensors that nothing else
        holds.
        """
        try:
            yield
        finally:
            self.optimizer.release()
            if self.average:
                self.average.keep()

    def _step(self, step: int, began: float) -> StepRecord:
        for part in self.stops.get(step, ()):
            self.optimizer.stop(part)
        if step == self.freezes:
            self.optimizer.freeze_d()
        self.optimizer.set_rate(rate_factor(self.recipe.schedule, step, self.steps, self.warmup))
        d, rates, batch = self.optimizer.d, self.optimizer.rates(), next(self.batches)
        with self.updates.watching(step):
            numbers = self.step_once(batch)
        if numbers.finite:
            self.loss_average.update(numbers.loss)
            if self.average:
                self.average.update()
        return StepRecord(
            step=step + 1,
            epoch=batch.epoch,
            loss=numbers.loss if numbers.finite else None,
            loss_average=self.loss_average.value,
            d=d,
            dlr_unet=rates.get("unet"),
            dlr_text_encoder=rates.get("text_encoder"),
            gradient_norm=numbers.gradient_norm if numbers.finite else None,
            seconds=time.perf_counter() - began,
            peak_memory_mb=peak_memory_mb(self.network.device),
        )

    # -- between steps

    def _between_steps(self, record: StepRecord) -> None:
        self._tell(self.advice.after_step(record))
        if record.step in self.measured:
            self._measure(record)
        if self.save_every and record.step % self.save_every == 0:
            self.on_event(SavedOnTheWay(self._kept(record)))
        if record.seconds >= self._copied + SAFETY_SECONDS:
            self._copied = record.seconds
            self.on_event(SafetyCopy(self._kept(record)))

    def _kept(self, record: StepRecord) -> KeptLora:
        with self._handing_on():
            return KeptLora(record, lora_tensors(self.adapters))

    def _measure(self, record: StepRecord | None) -> None:
        """Of the weights to hand on; `record` None is the untouched model."""
        step = record.step if record else 0
        self.on_event(Measuring(step))
        with self._handing_on():
            loss = self._loss(self.heldout)
            measured = HeldoutLoss(step, loss if math.isfinite(loss) else None)
            self.heldout_losses.append(measured)
            self.on_event(measured)
            if best_of(self.heldout_losses) is measured:
                self.on_event(BestSoFar(KeptLora(record, lora_tensors(self.adapters))))

    def _tell(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self.on_event(notice)

    @contextmanager
    def _handing_on(self) -> Iterator[None]:
        """The adapters hold what would be handed on now, and what is trained again after the block."""
        with ExitStack() as stack:
            stack.enter_context(self.optimizer.handing_on())
            if self.average:
                stack.enter_context(self.average.swapped_in())
            yield

    def _probe_loss(self) -> float:
        """Of the weights that are trained, which burn first."""
        return self._loss(self.probe)

    def _loss(self, grid: LossGrid) -> float:
        with self.precision.autocast():
            return grid.loss(self.network)

    def _snapshot(self) -> Any:
        return self.optimizer.snapshot(), self.average and self.average.snapshot()

    def _restore(self, snapshot: Any) -> None:
        of_optimizer, of_average = snapshot
        self.optimizer.restore(of_optimizer)
        if self.average:
            self.average.restore(of_average)


class _Step:
    """One step after the other: forward, backward, and the optimizer where the numbers are finite."""

    def __init__(
        self, network: Network, optimizer: RunOptimizer, precision: Precision, generators: Generators
    ) -> None:
        self.network, self.optimizer, self.precision, self.generators = (
            network,
            optimizer,
            precision,
            generators,
        )
        self.loss_scale = precision.loss_scale()
        self.skipped = self.skipped_in_a_row = 0

    def __call__(self, batch: Batch) -> Numbers:
        """What the step was; where it was not finite, nothing was changed.

        Raises `DivergedError` after many such in a row.
        """
        loss = self._backward(batch)
        if self.loss_scale.value != 1:
            torch._foreach_mul_(
                [p.grad for p in self.optimizer.parameters if p.grad is not None], 1 / self.loss_scale.value
            )
        numbers = self.optimizer.step(loss)
        self.loss_scale.after_step(numbers.finite)
        self._count(numbers.finite)
        self.optimizer.zero_grad()
        return numbers

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the scaled mean loss; gives that loss, unscaled, as a 0-d tensor on the device."""
        device, generators = self.network.device, self.generators
        latents = batch.latents.to(device)
        drawn_on = generators.noise.device
        noise = torch.randn(latents.shape, generator=generators.noise, device=drawn_on).to(device)
        timesteps = torch.randint(
            self.network.timesteps, (len(latents),), generator=generators.timesteps, device=drawn_on
        ).to(device)
        with self.precision.autocast():
            loss = losses(self.network, latents, batch.captions, noise, timesteps).mean()
        (loss * self.loss_scale.value).backward()
        return loss.detach()

    def _count(self, finite: bool) -> None:
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.skipped += not finite
        if self.skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
            raise DivergedError(
                f"{self.skipped_in_a_row} steps in a row gave a loss or gradient that is not finite"
                f" ({self.precision}). The LoRA was left as it was before them. Set precision to bf16 or fp32"
                " at Train, or check that the model makes good pictures."
            )


def _steps_per_unit(run: RunConfig, pictures: Sequence[LatentPicture]) -> int:
    return 1 if run.duration_unit == "steps" else batches_per_epoch(pictures, run.batch_size)


def _stops(recipe: OptimizerConfig, parts: Mapping[str, Any], steps: int) -> dict[int, list[str]]:
    """Which parts stop before which step, from 0."""
    stops: dict[int, list[str]] = {}
    for part in parts:
        percent = recipe.stop_percent(part)
        if percent != TO_THE_END:
            stops.setdefault(_step_at(percent, steps), []).append(part)
    return stops


def _step_at(percent: float, steps: int) -> int:
    """The step, from 0, before which a share of the run is over; never before the first, nor after the
    last.
    """
    return min(max(1, round(steps * percent / 100)), steps - 1)
