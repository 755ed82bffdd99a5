"""What a run leaves on disk, whether it finished, was stopped or failed."""

import json
import shutil
from pathlib import Path

from ..trainer.lora_file import cast, write_lora
from ..trainer.metrics import HeldoutLoss, StepRecord, append_records
from ..trainer.tensorboard import EventFiles
from .folders import new_run_folder
from .lora_model import LoraModel


class RunFolder:
    """output/loras/dadapt_runs/NAME_0001: steps.jsonl while it runs; lora.safetensors and report.json when it ends.

    Where TensorBoard is installed, also tensorboard/ with what its users know.
    """

    def __init__(self, name: str) -> None:
        self.path: Path = new_run_folder(name)
        self.records: list[StepRecord] = []
        self._events = EventFiles(self.path / "tensorboard")

    def record(self, record: StepRecord) -> None:
        append_records(self.path / "steps.jsonl", [record])
        self._events.record(record)
        self.records.append(record)

    def measured(self, heldout: HeldoutLoss) -> None:
        self._events.measured(heldout)

    def keep(self, lora: LoraModel, name: str) -> None:
        """A LoRA beside the one that the run ends with, as NAME.safetensors."""
        write_lora(self.path / f"{name}.safetensors", cast(lora, "fp32"), lora.metadata)

    def save(self, lora: LoraModel, report: dict) -> None:
        """The LoRA as it is now, fp32 because nobody has chosen yet, and what is known of the run."""
        write_lora(self.path / "lora.safetensors", cast(lora, "fp32"), lora.metadata)
        self._events.close()
        (self.path / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")

    def discard_if_empty(self) -> None:
        """A run that ended before its first step leaves nothing."""
        if not self.records:
            self._events.close()
            shutil.rmtree(self.path)
