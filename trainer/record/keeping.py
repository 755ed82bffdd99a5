"""Which LoRAs of a run stay, and which one it outputs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ..run.events import (
    BestSoFar,
    Event,
    Finished,
    IntermediateLora,
    LoraAtStep,
    SafetyCopy,
    StepRecord,
    Unfinished,
)
from .folder import RunFolder

BEST = "best"


class Keeping:
    """Writes the LoRAs of a run to its folder.

    While it runs: best.safetensors, step_000100.safetensors where somebody asked for it, and lora.safetensors
    for safety. In the end the output is lora.safetensors, and the best or the last one lies beside it under
    its own name where that is another.
    """

    def __init__(
        self, folder: RunFolder, metadata_of: Callable[[StepRecord], Mapping[str, str]], output: str
    ) -> None:
        """`output`: "best" or "last"."""
        self.folder = folder
        self.metadata_of = metadata_of
        self.chooses_best = output == BEST
        self.best: LoraAtStep | None = None
        self.best_is_saved = False  # as best.safetensors
        self.output: LoraAtStep | None = None  # once the run has ended
        self.output_is_saved = False  # as lora.safetensors

    def hear(self, event: Event) -> None:
        match event:
            case BestSoFar(lora):
                self.best = lora
                self.best_is_saved = self._write(lora, "best")
            case IntermediateLora(lora):
                self._write(lora, f"step_{lora.record.step:06d}")
            case SafetyCopy(lora):
                self._write(lora, "lora")
            case Finished(_, last):
                self._end(self.best if self.best and self.chooses_best else last, last)
            case Unfinished(_, _, last) if last is not None:
                self._end(last, last)

    def _end(self, output: LoraAtStep, last: LoraAtStep) -> None:
        self.output = output
        self.output_is_saved = self._write(output, "lora") or self.folder.rescue_lora(
            output.tensors, self.metadata_of(output.record)
        )
        if output.record.step != last.record.step:
            self._write(last, "last")
        if self.best and self.best.record.step != output.record.step:
            self.best_is_saved = self.best_is_saved or self._write(self.best, "best")
        elif self.output_is_saved and not self.folder.rescued:
            self.folder.drop_lora("best")
            self.best_is_saved = False

    def _write(self, lora: LoraAtStep, name: str) -> bool:
        return self.folder.write_lora(name, lora.tensors, self.metadata_of(lora.record))

    def state(self) -> dict[str, Any]:
        best = self.best
        return {
            "best": {"record": asdict(best.record), "tensors": best.tensors} if best else None,
            "best_is_saved": self.best_is_saved,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        best = state["best"]
        self.best = LoraAtStep(StepRecord(**best["record"]), best["tensors"]) if best else None
        self.best_is_saved = state["best_is_saved"]
