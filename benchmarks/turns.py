"""Trainers that take turns: each lives in a process of its own and does one step when it is told to.

    parent                      child
    Trainer(...)           ──►  starts, loads, trains its first step
                           ◄──  {"step": 1, "seconds": null}
    turn()        "go"     ──►  one more step, timed from this word to the trainer's own news of it
                           ◄──  {"step": 2, "seconds": 0.31}
    stop()        "stop"   ──►  leaves its training loop by an exception
                           ◄──  {"ended": ...}

Messages are JSON objects, one per line of the child's stdin and stdout. Whatever else the child's libraries
print goes to its log. Only one child runs at a time: all others wait to be told.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from devhost.errors import HostError
from devhost.pip import clean_environment

LOG_LINES_SHOWN = 25
SECONDS_TO_STOP = 60

Message = dict[str, Any]


class Stop(BaseException):
    """The parent has seen enough. Raised in the child, out of the trainer's loop."""


class Gate:
    """The child's side. `step` is called by the trainer after each of its steps."""

    def __init__(self, inbox: TextIO, outbox: TextIO, synchronize: Callable[[], Any] = lambda: None) -> None:
        self.inbox = inbox
        self.outbox = outbox
        self.synchronize = synchronize
        self.steps = 0
        self._began: float | None = None

    @classmethod
    def over_stdout(cls, synchronize: Callable[[], Any] = lambda: None) -> "Gate":
        """A gate that has stdout for its messages alone; from here on, what is printed goes to stderr."""
        outbox = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return cls(sys.stdin, outbox, synchronize)

    def step(self, **figures: Any) -> None:
        """Tells of a finished step and waits to be told to go on. Raises `Stop` where it is not."""
        self.synchronize()
        seconds = None if self._began is None else time.perf_counter() - self._began
        self.steps += 1
        self.tell({"step": self.steps, "seconds": seconds, **figures})
        if self.inbox.readline().strip() != "go":  # also when the parent is gone
            raise Stop
        self._began = time.perf_counter()

    def tell(self, message: Message) -> None:
        self.outbox.write(json.dumps(message) + "\n")
        self.outbox.flush()


class Trainer:
    """The parent's side: a child that has come to its first gate. Use it in a `with` block."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                encoding="utf-8",
                env=clean_environment() | dict(environment or {}),
            )

    def __enter__(self) -> "Trainer":
        try:
            self.first = self._hear()
        except BaseException:
            self._end(patience=0)
            raise
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._end(patience=0 if error else SECONDS_TO_STOP)

    def turn(self) -> Message:
        """One step. Raises `HostError` with the end of the child's log when it died."""
        self._say("go")
        return self._hear()

    def stop(self) -> Message:
        """Ends the training and gives the child's last message."""
        self._say("stop")
        return self._hear()

    def _end(self, patience: float) -> None:
        """The process is gone after this, whatever it was doing."""
        with contextlib.suppress(OSError):  # it died, and what was written last was never read
            self._process.stdin.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _say(self, word: str) -> None:
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _hear(self) -> Message:
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        return json.loads(line)

    def _died(self) -> HostError:
        self._process.wait()
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        status = self._process.returncode
        return HostError(
            f"A trainer ended with status {status} before it was told to; its last words:\n"
            + "\n".join(lines)
        )


def in_turns(trainers: Sequence[Callable[[], Trainer]], rounds: int, warm_up: int) -> list[list[Message]]:
    """The messages of each trainer's counted steps. All are started before the first round."""
    with ExitStack() as stack:
        started = [stack.enter_context(start()) for start in trainers]
        counted = alternate(started, rounds, warm_up)
        for trainer in started:
            trainer.stop()
    return counted


def alternate(trainers: Sequence[Trainer], rounds: int, warm_up: int) -> list[list[Message]]:
    """The messages of each trainer's steps in `rounds` rounds, in which they take turns.

    The `warm_up` rounds before them are not counted.
    """
    counted: list[list[Message]] = [[] for _ in trainers]
    for turn in range(warm_up + rounds):
        for messages, trainer in zip(counted, trainers, strict=True):
            message = trainer.turn()
            if turn >= warm_up:
                messages.append(message)
    return counted


def one_after_the_other(
    trainers: Sequence[Callable[[], Trainer]], rounds: int, warm_up: int
) -> list[list[Message]]:
    """The same for trainers that do not fit in memory together: each starts when the last has ended."""
    counted = []
    for start in trainers:
        with start() as trainer:
            counted += alternate([trainer], rounds, warm_up)
            trainer.stop()
    return counted


@contextmanager
def told_when_over(gate: Gate, last: Callable[[], Message]) -> Iterator[None]:
    """Around a child's training: `Stop` ends it, and the parent gets the last message."""
    try:
        yield
    except Stop:
        gate.tell({"ended": True, **last()})
