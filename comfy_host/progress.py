"""Telling the person at the graph how a run goes: a bar and text on the node, events to the page, the log."""

import logging

import comfy.utils
from server import PromptServer

from ..trainer.run.events import Event, HeldoutLoss, Measuring, Notice, Started, StepRecord
from ..trainer.run.heldout import best_of
from .control import ComfyUIControl

CONSOLE_LINES = 10  # of a run's steps

_log = logging.getLogger(__name__)


class Progress:
    """The progress bar and text on one node, and the pack's events to the page that queued it.

    `phase` and `tick` are for what comes before a run, `hear` for the run itself.
    """

    def __init__(self, node_id: str | None) -> None:
        self.node_id = node_id
        self.control = ComfyUIControl()
        self._bar: comfy.utils.ProgressBar | None = None
        self._phase = ""
        self._total = 0
        self._heldout: list[HeldoutLoss] = []
        self._found = ""  # notices from before the first step
        self._notice = ""  # the last one of those that came later

    # -- before a run

    def phase(self, text: str, total: int = 0) -> None:
        """Begins a phase with a bar of `total` ticks, or without a bar. Raises when somebody cancels."""
        self.control.wants_to_finish()
        self._begin(text, total)
        _log.info("%s%s", text, f" ({total})" if total else "")
        self._say(text)

    def tick(self, done: int) -> None:
        """`done` of the phase's total. Raises when somebody cancels."""
        self.control.wants_to_finish()
        self._bar.update_absolute(done, self._total)
        self._say(f"{self._phase} {done}/{self._total}")

    # -- a run

    def hear(self, event: Event) -> None:
        match event:
            case Started(steps):
                self._begin("training", steps)
                _log.info("training (%d)", steps)
                self._say("training")
            case StepRecord():
                self._step(event)
            case Measuring(step):
                self._say("measuring the held-out loss" + (f" after step {step}" if step else ""))
            case HeldoutLoss():
                self._heldout.append(event)
            case Notice():
                self._hear_notice(event)

    def finished(self, text: str) -> None:
        """The last text on the node, also on the console."""
        _log.info(text)
        show(text, self.node_id)

    def _begin(self, text: str, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total, node_id=self.node_id) if total else None
        self._phase = text
        self._total = total

    def _step(self, record: StepRecord) -> None:
        steps = self._total
        seconds_left = record.seconds / record.step * (steps - record.step)
        self._bar.update_absolute(record.step, steps)
        _send("dadapt_lora.step", _step_event(record, self.node_id, steps, seconds_left))
        lines = _step_lines(record, steps, seconds_left)
        if record.step * CONSOLE_LINES % steps < CONSOLE_LINES:
            _log.info(", ".join(lines))
        show("\n".join(lines) + self._heldout_line() + self._found + self._notice, self.node_id)

    def _heldout_line(self) -> str:
        if not self._heldout:
            return ""
        loss = self._heldout[-1].loss
        best = best_of(self._heldout)
        shown = "not finite" if loss is None else f"{loss:.4f}"
        return f"\nheld-out loss {shown}" + (f", best {best.loss:.4f} at step {best.step}" if best else "")

    def _hear_notice(self, notice: Notice) -> None:
        """Something that must not wait for the report: on the node, on the console, and for the page.

        What was found before the first step stays on the node; of what comes later, the last is shown.
        """
        if notice.step:
            self._notice = f"\n{notice.text}"
        else:
            self._found += f"\n{notice.text}"
        _log.warning("%s%s", f"Step {notice.step}: " if notice.step else "", notice.text)
        _send("dadapt_lora.notice", {"node": self.node_id, "step": notice.step, "text": notice.text})

    def _say(self, text: str) -> None:
        _send("dadapt_lora.phase", {"node": self.node_id, "text": text})
        show(text, self.node_id)


def show(text: str, node_id: str | None) -> None:
    """Text on a node of the page that queued it."""
    server = PromptServer.instance
    if node_id is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node_id, server.client_id)


def _step_event(record: StepRecord, node_id: str | None, steps: int, seconds_left: float) -> dict:
    return {
        "node": node_id,
        "step": record.step,
        "steps": steps,
        "epoch": record.epoch,
        "loss": record.loss,
        "loss_average": record.loss_average,
        "d": record.d,
        "dlr": dict(record.dlr),
        "seconds_left": seconds_left,
    }


def _step_lines(record: StepRecord, steps: int, seconds_left: float) -> list[str]:
    loss = "not finite" if record.loss_average is None else f"{record.loss_average:.4f}"
    rates = " ".join(f"{part} {rate:.1e}" for part, rate in record.dlr.items() if rate is not None)
    return [
        f"step {record.step}/{steps}, epoch {record.epoch}",
        f"loss {loss}",
        f"d·lr {rates}",
        f"{_duration(seconds_left)} left",
    ]


def _send(event: str, data: dict) -> None:
    server = PromptServer.instance
    server.send_sync(event, data, server.client_id)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
