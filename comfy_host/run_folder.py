"""What a run leaves on disk, whether it finished, was stopped, failed, or died with the machine."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..trainer.adapters.file import cast, write_lora
from ..trainer.record.steps_file import append_records
from ..trainer.record.tensorboard import EventFiles
from ..trainer.run.events import HeldoutLoss, StepRecord
from .lora_model import LoraModel
from .output_files import name_in_output, new_run_folder


class RunFolder:
    """output/loras/dadapt_runs/NAME_0001: steps.jsonl and LoRAs while it runs; lora.safetensors and
    report.json when it ends.

    Where TensorBoard is installed, also tensorboard/ with what its users know. A disk that gets full or goes
    away does not end the run: `problem` says what could not be written.
    """

    def __init__(self, name: str) -> None:
        self.path: Path = new_run_folder(name)
        self.records: list[StepRecord] = []
        self.problem: str | None = None
        self._events = EventFiles(self.path / "tensorboard")

    @property
    def name(self) -> str:
        """Below the output folder."""
        return name_in_output(self.path)

    def record(self, record: StepRecord) -> None:
        self.records.append(record)
        with self._writing("steps.jsonl"):
            append_records(self.path / "steps.jsonl", [record])
        with self._writing("tensorboard"):
            self._events.record(record)

    def measured(self, heldout: HeldoutLoss) -> None:
        with self._writing("tensorboard"):
            self._events.measured(heldout)

    def keep(self, lora: LoraModel, name: str) -> bool:
        """A LoRA as NAME.safetensors, fp32 because nobody has chosen yet; whether it was written."""
        with self._writing(f"{name}.safetensors"):
            write_lora(self.path / f"{name}.safetensors", cast(lora, "fp32"), lora.metadata)
            return True
        return False

    def drop(self, name: str) -> None:
        with self._writing(f"{name}.safetensors"):
            (self.path / f"{name}.safetensors").unlink(missing_ok=True)

    def end(self, report: dict) -> None:
        """What is known of the run."""
        with self._writing("report.json"):
            (self.path / "report.json").write_text(
                json.dumps(report, indent=1, allow_nan=False), encoding="utf-8"
            )
        with self._writing("tensorboard"):
            self._events.close()

    @contextmanager
    def gone_if_empty(self) -> Iterator[None]:
        """A run that ends before its first step leaves nothing."""
        try:
            yield
        finally:
            if not self.records:
                with self._writing("tensorboard"):
                    self._events.close()
                shutil.rmtree(
                    self.path, ignore_errors=True
                )  # an empty folder that stays must not hide what ended the run

    @contextmanager
    def _writing(self, file: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = (
                f"{file} could not be written to {self.name}: {error.strerror or error}. Make room there, or"
                " allow it"
            )
