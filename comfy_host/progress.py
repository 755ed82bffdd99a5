"""Telling the person at the graph how a run goes, and hearing that they want it to stop."""

import logging

import comfy.model_management
import comfy.utils
from server import PromptServer

from ..trainer.run.events import HeldoutLoss, Notice, StepRecord

CONSOLE_LINES = 10  # of a run's steps

_log = logging.getLogger(__name__)


class Progress:
    """The progress bar and text on one node, and the pack's events to the page that queued it."""

    def __init__(self, node_id: str | None) -> None:
        self.node_id = node_id
        self._bar: comfy.utils.ProgressBar | None = None
        self._text, self._total = "", 0
        self._heldout = self._found = self._notice = ""

    def phase(self, text: str, total: int = 0) -> None:
        """Begins a phase with a bar of `total` ticks, or without a bar."""
        stop_if_asked()
        self._bar = comfy.utils.ProgressBar(total, node_id=self.node_id) if total else None
        self._text, self._total = text, total
        _log.info("%s%s", text, f" ({total})" if total else "")
        self._say(text)

    def tick(self, done: int) -> None:
        """`done` of the phase's total; raises the host's interrupt when somebody pressed cancel."""
        stop_if_asked()
        self._bar.update_absolute(done, self._total)
        self._say(f"{self._text} {done}/{self._total}")

    def step(self, record: StepRecord, steps: int) -> None:
        """One training step; raises the host's interrupt when somebody pressed cancel."""
        stop_if_asked()
        seconds_left = record.seconds / record.step * (steps - record.step)
        self._bar.update_absolute(record.step, steps)
        event = {
            "node": self.node_id,
            "step": record.step,
            "steps": steps,
            "epoch": record.epoch,
            "loss": record.loss,
            "loss_average": record.loss_average,
            "d": record.d,
            "dlr_unet": record.dlr_unet,
            "dlr_text_encoder": record.dlr_text_encoder,
            "seconds_left": seconds_left,
        }
        _send("dadapt_lora.step", event)
        rates = {"unet": record.dlr_unet, "te": record.dlr_text_encoder}
        rates_text = " ".join(f"{part} {rate:.1e}" for part, rate in rates.items() if rate is not None)
        loss = "not finite" if record.loss_average is None else f"{record.loss_average:.4f}"
        where = f"step {record.step}/{steps}, epoch {record.epoch}"
        lines = [where, f"loss {loss}", f"d·lr {rates_text}", f"{_duration(seconds_left)} left"]
        if record.step * CONSOLE_LINES % steps < CONSOLE_LINES:
            _log.info(", ".join(lines))
        show("\n".join(lines) + self._heldout + self._found + self._notice, self.node_id)

    def measuring(self, step: int) -> None:
        """The held-out pictures are measured: a pause between two steps.

        Raises the host's interrupt when somebody pressed cancel.
        """
        stop_if_asked()
        self._say("measuring the held-out loss" + (f" after step {step}" if step else ""))

    def measured(self, measured: HeldoutLoss, best: HeldoutLoss | None) -> None:
        """On the node from the next step on. `best` is the lowest of a trained LoRA so far."""
        loss = "not finite" if measured.loss is None else f"{measured.loss:.4f}"
        self._heldout = f"\nheld-out loss {loss}" + (
            f", best {best.loss:.4f} at step {best.step}" if best else ""
        )

    def notice(self, notice: Notice) -> None:
        """Something that must not wait for the report: on the node from the next step on, on the console, and
        for the page.

        What was found before the first step stays there; of what comes later, the last is shown.
        """
        if notice.step:
            self._notice = f"\n{notice.text}"
        else:
            self._found += f"\n{notice.text}"
        _log.warning("%s%s", f"Step {notice.step}: " if notice.step else "", notice.text)
        _send("dadapt_lora.notice", {"node": self.node_id, "step": notice.step, "text": notice.text})

    def finished(self, text: str) -> None:
        """The last text on the node, also on the console."""
        _log.info(text)
        show(text, self.node_id)

    def _say(self, text: str) -> None:
        _send("dadapt_lora.phase", {"node": self.node_id, "text": text})
        show(text, self.node_id)


def show(text: str, node_id: str | None) -> None:
    """Text on a node of the page that queued it."""
    server = PromptServer.instance
    if node_id is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node_id, server.client_id)


def stop_if_asked() -> None:
    """Raises the host's interrupt when somebody pressed cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def _send(event: str, data: dict) -> None:
    server = PromptServer.instance
    server.send_sync(event, data, server.client_id)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
