"""What a run says when it is over: numbers for programs, lines for people."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..parts import label_of
from ..run.events import HeldoutLoss, StepRecord
from ..run.heldout import best_of, measured_at, overtraining_began
from ..run.result import TrainingResult


class Report(dict):
    """The record of one run.

    As a dict it is ComfyUI's LOSS_MAP, {"loss": [one value per step]}, so that its Plot Loss Graph takes it.
    """

    def __init__(
        self,
        result: TrainingResult,
        records: Sequence[StepRecord],
        heldout: Sequence[HeldoutLoss],
        found: Sequence[str],
        warnings: Sequence[str],
        output_step: int,  # the step whose LoRA went to the outputs
        run_folder: str,
    ) -> None:
        super().__init__(loss=[record.loss for record in records if record.loss is not None])
        self.result = result
        self.records = tuple(records)
        self.heldout = tuple(heldout)
        self.found = tuple(found)
        self.warnings = tuple(warnings)
        self.output_step = output_step
        self.run_folder = run_folder

    @property
    def best(self) -> HeldoutLoss | None:
        """The lowest held-out loss of a trained LoRA; None where nothing was held out."""
        return best_of(self.heldout)

    @property
    def last_measured(self) -> HeldoutLoss | None:
        """The held-out loss of the LoRA that the run ended with."""
        return measured_at(self.heldout, self.result.last_step)

    @property
    def overtraining_from(self) -> int | None:
        """The step at which overtraining began; None where it did not, or nothing was held out."""
        began = overtraining_began(self.heldout, self.result.last_step)
        return began.step if began else None

    def summary(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        result = self.result
        return {
            "steps": result.steps,
            "planned_steps": result.planned_steps,
            "last_step": result.last_step,
            "seconds_training": round(result.seconds, 3),
            "skipped_steps": result.skipped_steps,
            "d_first": result.d_first,
            "d_last": result.d_last,
            "update_ratio": result.update_ratio,
            "update_share": result.update_share,
            "burns": [asdict(burn) for burn in result.burns],
            "heldout_loss_before": self.heldout[0].loss if self.heldout else None,
            "heldout_loss_after": self.last_measured.loss if self.last_measured else None,
            "heldout_loss_best": self.best.loss if self.best else None,
            "best_step": self.best.step if self.best else None,
            "overtraining_from": self.overtraining_from,
            "output_step": self.output_step,
            "heldout": [[measured.step, measured.loss] for measured in self.heldout],
            "peak_memory_mb": self.records[-1].peak_memory_mb,
            "loss_average": self.records[-1].loss_average,
            "run_folder": self.run_folder,
            "text": self.text,
        }

    @property
    def text(self) -> str:
        return "\n".join(self._lines())

    def __str__(self) -> str:
        return self.text

    def _lines(self) -> list[str]:
        return [
            *(f"Warning: {warning}" for warning in self.warnings),
            *self._length_lines(),
            *self._heldout_lines(),
            *self._rate_lines(),
            *self.found,
        ]

    def _length_lines(self) -> Iterator[str]:
        result = self.result
        last = self.records[-1]
        epochs = "1 epoch" if last.epoch == 1 else f"{last.epoch} epochs"
        per_step = result.seconds / result.steps
        yield f"{result.steps} steps, {epochs}, in {result.seconds:.0f} s ({per_step:.2f} s per step)"
        if result.steps < result.planned_steps:
            yield (
                f"finished early, at step {result.steps} of {result.planned_steps}; to train the whole run,"
                " change a setting and queue again"
            )
        if result.last_step < result.steps:
            yield (
                f"the last LoRA is that of step {result.last_step}: the steps after it were skipped, or taken"
                " back because it burnt"
            )
        if last.loss_average is not None:
            yield f"loss {last.loss_average:.4f}, averaged over the last steps"

    def _heldout_lines(self) -> Iterator[str]:
        if not self.heldout:
            return
        before = self.heldout[0].loss
        after = self.last_measured.loss if self.last_measured else None
        if before is None:
            yield "held-out loss not finite before training"
        elif after is None:
            yield "held-out loss not finite at the end"
        else:
            change = 100 * (after / before - 1)
            yield f"held-out loss {before:.4f} before, {after:.4f} after ({change:+.1f}%)"
        if self.overtraining_from is not None:
            yield (
                f"overtraining began at step {self.best.step}, where the held-out loss was lowest:"
                f" {self.best.loss:.4f}"
            )
        if self.output_step != self.result.last_step:
            yield (
                f"the output is the LoRA of step {self.output_step}, the best one; the last one is in"
                f" {self.run_folder}"
            )

    def _rate_lines(self) -> Iterator[str]:
        result = self.result
        rates = ", ".join(
            f"{label_of(part)} {rate:.1e}" for part, rate in self.records[-1].dlr.items() if rate is not None
        )
        d = "" if result.d_last is None else f"d {result.d_first:.1e} to {result.d_last:.1e}; "
        yield f"{d}d·lr {rates}"
        if result.update_ratio is not None:
            yield f"the text encoders' updates were {result.update_ratio:.2f} times the UNet's"
