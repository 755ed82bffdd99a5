"""What a run leaves on disk, whether it finished, was stopped, failed, or died with the machine."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from ..adapters.file import cast, write_lora
from ..atomic_file import write_text
from ..errors import LoraFileError
from ..run.events import Event, Finished, HeldoutLoss, Notice, StepRecord, Unfinished
from .tensorboard import EventFiles

WORTH = (".jsonl", ".safetensors")  # files for which a run's folder stays


@dataclass(frozen=True)
class RunPlace:
    """Where a run writes."""

    path: Path  # a folder of its own
    name: str  # of that folder, as a person sees it
    spare: Path  # a folder on another disk, perhaps: for a LoRA that would be lost otherwise
    spare_name: str


class RunFolder:
    """One folder: steps.jsonl and LoRAs while the run goes on; lora.safetensors and report.json when it ends.

    Where TensorBoard is installed, also tensorboard/ with what its users know. A disk that gets full or goes
    away does not end the run: `problem` says what could not be written, and is told once, as a notice.
    """

    def __init__(self, place: RunPlace, tell: Callable[[Event], None]) -> None:
        self.place = place
        self.tell = tell
        self.problem: str | None = None
        self.rescued: str | None = None  # where a LoRA went that could not be written here
        self._step = 0
        self._events = EventFiles(place.path / "tensorboard")

    def hear(self, event: Event) -> None:
        if isinstance(event, StepRecord):
            self._step = event.step
            with self._writing("steps.jsonl"):
                append_record(self.place.path / "steps.jsonl", event)
        if isinstance(event, StepRecord | HeldoutLoss):
            with self._writing("tensorboard"):
                self._events.hear(event)
        if isinstance(event, Finished | Unfinished):
            with self._writing("tensorboard"):
                self._events.close()

    def write_lora(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bool:
        """Writes NAME.safetensors in fp32, because nobody has chosen yet. Returns whether it was written."""
        with self._writing(f"{name}.safetensors"):
            write_lora(self.place.path / f"{name}.safetensors", cast(tensors, "fp32"), metadata)
            return True
        return False

    def rescue_lora(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bool:
        """Writes the LoRA to the spare folder, after `write_lora` failed at the end of a run."""
        file = f"{self.place.path.name}.safetensors"
        with self._writing(file):
            write_lora(self.place.spare / file, cast(tensors, "fp32"), metadata)
            self.rescued = f"{self.place.spare_name}/{file}"
            return True
        return False

    def drop_lora(self, name: str) -> None:
        with self._writing(f"{name}.safetensors"):
            (self.place.path / f"{name}.safetensors").unlink(missing_ok=True)

    def write_report(self, report: Mapping[str, object]) -> None:
        """Writes report.json, whole or not at all."""
        with self._writing("report.json"):
            text = json.dumps(report, indent=1, allow_nan=False)
            write_text(self.place.path / "report.json", text)

    @contextmanager
    def _writing(self, file: str) -> Iterator[None]:
        try:
            yield
        except (OSError, LoraFileError) as error:
            reason = getattr(error, "strerror", None) or error
            problem = (
                f"{file} could not be written to {self.place.name}: {reason}. Make room there, or allow it"
                if isinstance(error, OSError)
                else f"{file} was not written: {reason}"
            )
            self._note(problem)

    def _note(self, problem: str) -> None:
        is_first = self.problem is None
        self.problem = problem
        if is_first:
            self.tell(Notice(self._step, problem))


def append_record(path: Path, record: StepRecord) -> None:
    """Adds the record to the file at `path` as one line of JSON."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record), allow_nan=False) + "\n")


@contextmanager
def removed_if_no_step(place: RunPlace) -> Iterator[None]:
    """A run that ends before its first step leaves nothing."""
    try:
        yield
    finally:
        # a folder that cannot be looked at or removed must not hide what ended the run
        with contextlib.suppress(OSError):
            if not any(path.suffix in WORTH for path in place.path.iterdir()):
                shutil.rmtree(place.path, ignore_errors=True)
