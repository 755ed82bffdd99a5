"""What a run says when it is over: numbers for programs, lines for people."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .loop import TrainingResult
from .metrics import StepRecord


@dataclass(frozen=True)
class HeldoutLoss:
    """Loss of the held-out pictures, over fixed noises and timesteps."""

    step: int  # 0: the untouched model
    loss: float


class Report(dict):
    """The record of one run. As a dict it is the host's LOSS_MAP, {"loss": [a value a step]}, so that its Plot Loss Graph takes it."""

    def __init__(
        self,
        result: TrainingResult,
        records: Sequence[StepRecord],
        heldout: Sequence[HeldoutLoss],
        found: Sequence[str],
        warnings: Sequence[str],
        run_folder: str,
    ) -> None:
        super().__init__(loss=[record.loss for record in records if record.loss is not None])
        self.result, self.records, self.heldout = result, tuple(records), tuple(heldout)
        self.found, self.warnings, self.run_folder = tuple(found), tuple(warnings), run_folder

    def summary(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        losses = {"heldout_loss_before": self.heldout[0].loss, "heldout_loss_after": self.heldout[-1].loss} if self.heldout else {}
        result = asdict(self.result)
        return {
            "steps": result.pop("steps"),
            "seconds_training": round(result.pop("seconds"), 3),
            **result,
            **{"heldout_loss_before": None, "heldout_loss_after": None, **losses},
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
        lines.append(f"{result.steps} steps, {epochs}, in {result.seconds:.0f} s ({result.seconds / result.steps:.2f} s a step)")
        if last.loss_average is not None:
            lines.append(f"loss {last.loss_average:.4f}, averaged over the last steps")
        if self.heldout:
            before, after = self.heldout[0].loss, self.heldout[-1].loss
            lines.append(f"held-out loss {before:.4f} before, {after:.4f} after ({100 * (after / before - 1):+.1f}%)")
        rates = {"UNet": last.dlr_unet, "text encoder": last.dlr_text_encoder}
        lines.append(
            f"d {result.d_first:.1e} to {result.d_last:.1e}; d·lr "
            + ", ".join(f"{part} {rate:.1e}" for part, rate in rates.items() if rate is not None)
        )
        if result.update_ratio is not None:
            lines.append(f"the text encoder's updates were {result.update_ratio:.2f} times the UNet's")
        return lines + list(self.found)
