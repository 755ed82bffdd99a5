"""Event files for TensorBoard, with the tags that its users know from other trainers.

They are written where `tensorboard` is installed.
"""

import logging
from importlib.util import find_spec
from pathlib import Path

from ..parts import is_text_encoder
from ..run.events import HeldoutLoss, StepRecord


class EventFiles:
    """One run's event files below `folder`, which is made with the first of them.

    Nothing is written where `tensorboard` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = None
        self._is_installed = find_spec("tensorboard") is not None

    def hear(self, event: StepRecord | HeldoutLoss) -> None:
        if isinstance(event, HeldoutLoss):
            self._add(event.step, {"loss/heldout": event.loss})
            return
        scalars = {
            "loss/current": event.loss,
            "loss/average": event.loss_average,
            "d": event.d,
            "gradient_norm": event.gradient_norm,
        }
        rates = {f"lr/d*lr/{_tag(part)}": rate for part, rate in event.dlr.items()}
        self._add(event.step, scalars | rates)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, step: int, scalars: dict[str, float | None]) -> None:
        if self._writer is None and self._is_installed:
            self._writer = self._open()
        if self._writer is not None:
            for tag, value in scalars.items():
                if value is not None:
                    self._writer.add_scalar(tag, value, step)

    def _open(self):
        """A writer; None where the installed `tensorboard` does not load, which must not cost a run."""
        try:
            from torch.utils.tensorboard import SummaryWriter  # slow to import
        except (ImportError, AttributeError, TypeError) as error:  # raised beside another protobuf or numpy
            self._is_installed = False
            logging.getLogger(__name__).warning(
                "No event files for TensorBoard: it is installed, but does not load (%s).", error
            )
            return None
        return SummaryWriter(str(self.folder))


def _tag(part: str) -> str:
    """The part as kohya's sd-scripts names it, with the name of the text encoder behind."""
    return f"textencoder/{part}" if is_text_encoder(part) else part
