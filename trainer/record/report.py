"""What a run says when it is over: numbers for programs, lines for people."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..run.events import HeldoutLoss, StepRecord
from ..run.heldout import best_of, overtraining_began
from ..run.result import TrainingResult


class Report(dict):
    """The record of one run.

    As a dict it is the host's LOSS_MAP, {"loss": [a value a step]}, so that its Plot Loss Graph takes it.
    """

    def __init__(
        self,
        result: TrainingResult,
        records: Sequence[StepRecord],
        heldout: Sequence[HeldoutLoss],
        found: Sequence[str],
        warnings: Sequence[str],
        handed_on: int,  # the step whose LoRA went to the outputs
        run_folder: str,
    ) -> None:
        super().__init__(loss=[record.loss for record in records if record.loss is not None])
        self.result, self.records, self.heldout = result, tuple(records), tuple(heldout)
        self.found, self.warnings = tuple(found), tuple(warnings)
        self.handed_on, self.run_folder = handed_on, run_folder

    @property
    def best(self) -> HeldoutLoss | None:
        """The lowest held-out loss of a trained LoRA; None where nothing was held out."""
        return best_of(self.heldout)

    @property
    def overtraining_from(self) -> int | None:
        """The step at which overtraining began; None where it did not, or nothing was held out."""
        began = overtraining_began(self.heldout)
        return began.step if began else None

    def summary(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        result = self.result
        return {
            "steps": result.steps,
            "seconds_training": round(result.seconds, 3),
            "skipped_steps": result.skipped_steps,
            "d_first": result.d_first,
            "d_last": result.d_last,
            "update_ratio": result.update_ratio,
            "update_share": result.update_share,
            "burns": [asdict(burn) for burn in result.burns],
            "heldout_loss_before": self.heldout[0].loss if self.heldout else None,
            "heldout_loss_after": self.heldout[-1].loss if self.heldout else None,
            "heldout_loss_best": self.best.loss if self.best else None,
            "best_step": self.best.step if self.best else None,
            "overtraining_from": self.overtraining_from,
            "handed_on_step": self.handed_on,
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
        result, last = self.result, self.records[-1]
        lines = [f"Warning: {warning}" for warning in self.warnings]
        epochs = "1 epoch" if last.epoch == 1 else f"{last.epoch} epochs"
        lines.append(
            f"{result.steps} steps, {epochs}, in {result.seconds:.0f} s ({result.seconds / result.steps:.2f}"
            " s a step)"
        )
        if last.loss_average is not None:
            lines.append(f"loss {last.loss_average:.4f}, averaged over the last steps")
        if self.heldout:
            lines += self._heldout_lines()
        rates = {"UNet": last.dlr_unet, "text encoder": last.dlr_text_encoder}
        d = "" if result.d_last is None else f"d {result.d_first:.1e} to {result.d_last:.1e}; "
        lines.append(
            f"{d}d·lr " + ", ".join(f"{part} {rate:.1e}" for part, rate in rates.items() if rate is not None)
        )
        if result.update_ratio is not None:
            lines.append(f"the text encoder's updates were {result.update_ratio:.2f} times the UNet's")
        return lines + list(self.found)

    def _heldout_lines(self) -> list[str]:
        before, after, best = self.heldout[0].loss, self.heldout[-1].loss, self.best
        if before is None or after is None:
            lines = [
                (
                    "held-out loss not finite at the end"
                    if before
                    else "held-out loss not finite before training"
                )
            ]
        else:
            lines = [
                f"held-out loss {before:.4f} before, {after:.4f} after ({100 * (after / before - 1):+.1f}%)"
            ]
        if self.overtraining_from is not None:
            lines.append(
                f"overtraining began at step {best.step}, where the held-out loss was lowest: {best.loss:.4f}"
            )
        if self.handed_on != self.result.steps:
            lines.append(
                f"handed on: the LoRA of step {self.handed_on}, the best one; the last one is kept in"
                f" {self.run_folder}"
            )
        return lines
