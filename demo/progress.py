"""The demo's progress on the console, fed by the events of the server's websocket."""

import re
import sys
import time

from tqdm import tqdm

from devhost.console import say
from devhost.execution import Event

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
SECONDS_BETWEEN_LINES = 10  # where the console is a file, in which a bar cannot be redrawn


class TrainingProgress:
    """Shows the progress of a training. Use it in a `with` block and give its `on_event` to Client.run."""

    def __init__(self) -> None:
        self.first_step_at: float | None = None  # seconds since 1970
        self._bar: tqdm | None = None
        self._phase = ""

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_bar()

    def on_event(self, event: Event) -> None:
        if event.type == "dadapt_lora.step":
            self._show_step(event.data)
        elif event.type == "dadapt_lora.phase":
            self._show_phase(event.data["text"])

    def _show_step(self, data: dict) -> None:
        if self.first_step_at is None:
            self.first_step_at = time.time()
        if self._bar is None:
            self._bar = progress_bar("training", data["steps"])
        self._bar.set_postfix_str(_step_text(data), refresh=False)
        self._bar.update(data["step"] - self._bar.n)
        if data["step"] == data["steps"]:
            self._close_bar()

    def _show_phase(self, text: str) -> None:
        """One line per phase; a phase that counts ("... 12/60") is not shown again for every number."""
        phase = re.sub(r" *\d+/\d+$", "", text)
        if phase != self._phase and self._bar is None:
            say(phase)
        self._phase = phase

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def progress_bar(description: str, total: int) -> tqdm:
    between = 0.1 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
    return tqdm(desc=description, total=total, bar_format=BAR, mininterval=between, file=sys.stderr)


def _step_text(data: dict) -> str:
    rates = data["dlr"].items()
    shown = " ".join(f"{part.replace('_', ' ')} {rate:.1e}" for part, rate in rates if rate is not None)
    minutes, seconds = divmod(round(data["seconds_left"]), 60)
    loss = "not finite" if data["loss_average"] is None else f"{data['loss_average']:.4f}"
    return f"loss {loss}, d·lr {shown}, {minutes}:{seconds:02} left"
