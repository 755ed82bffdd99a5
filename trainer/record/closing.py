"""The last that a run writes and says, however it ended."""

from collections.abc import Callable, Iterator, Sequence

from ..precision import Precision
from ..run.advice import of_finished_run
from ..run.events import Event, Finished, Unfinished
from ..run.result import TrainingResult
from .folder import RunFolder
from .history import History
from .keeping import Keeping
from .report import Report


class Closing:
    """Writes report.json when a run has ended, and says where everything is. The last of the listeners."""

    def __init__(
        self,
        history: History,
        folder: RunFolder,
        keeping: Keeping,
        found: Sequence[str],
        precision: Precision,
        say: Callable[[str], None],
    ) -> None:
        """`found`: lines for the report; `say` takes the last text on the node."""
        self.history = history
        self.folder = folder
        self.keeping = keeping
        self.found = found
        self.precision = precision
        self.say = say
        self.report: Report | None = None  # of a finished run

    def hear(self, event: Event) -> None:
        match event:
            case Finished(result):
                self._finished(result)
            case Unfinished() if self.history.records:
                self._unfinished(event)

    def _finished(self, result: TrainingResult) -> None:
        self.report = Report(
            result=result,
            records=self.history.records,
            heldout=self.history.heldout,
            found=self.found,
            warnings=list(self._warnings(result)),
            output_step=self.keeping.output.record.step,
            run_folder=self.folder.place.name,
        )
        self.folder.write_report({"ended": "finished", **self.report.summary()})
        self.say(self.report.text)

    def _warnings(self, result: TrainingResult) -> Iterator[str]:
        notices = [notice.text for notice in self.history.notices]
        yield from notices
        if self.folder.problem and self.folder.problem not in notices:
            yield self.folder.problem
        if self.folder.rescued:
            yield f"the LoRA is in {self.folder.rescued}, which ComfyUI empties when it starts: copy it"
        yield from of_finished_run(result, self.history.heldout, self.precision)

    def _unfinished(self, event: Unfinished) -> None:
        best = self.keeping.best
        output = self.keeping.output
        ended = "cancelled" if event.cancelled else "failed"
        self.folder.write_report(
            {
                "ended": ended,
                "step": self.history.last_step,
                "output_step": output.record.step if output else None,
                "reason": f"{type(event.reason).__name__}: {event.reason}",
                "heldout": [[measured.step, measured.loss] for measured in self.history.heldout],
                "best_step": best.record.step if best else None,
                "notices": [notice.text for notice in self.history.notices],
            }
        )
        self.say("\n".join(self._where_it_is(ended)))

    def _where_it_is(self, ended: str) -> Iterator[str]:
        folder = self.folder
        name = folder.place.name
        done = self.history.last_step
        yield f"{ended} after step {done} of {self.history.planned_steps}"
        if self.keeping.output is None:
            yield "the last state is the model as it was before training, so that there is no LoRA of it"
        elif folder.rescued:
            yield f"{self._lora()}: {folder.rescued}, which ComfyUI empties when it starts: copy it"
        elif self.keeping.output_is_saved:
            yield f"{self._lora()}: {name}/lora.safetensors, in Load LoRA after a press of R"
        if self.keeping.best_is_saved:
            yield f"the best one, of step {self.keeping.best.record.step}: {name}/best.safetensors"
        if folder.problem:
            yield folder.problem

    def _lora(self) -> str:
        step = self.keeping.output.record.step
        return "the LoRA until then" if step == self.history.last_step else f"the LoRA of step {step}"
