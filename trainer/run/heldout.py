"""What measurements of held-out pictures say: which LoRA was best, and where overtraining began."""

from collections.abc import Iterable, Sequence

from .events import HeldoutLoss

OVERTRAINED = 1.01  # the last loss over the best one


def best_of(losses: Iterable[HeldoutLoss]) -> HeldoutLoss | None:
    """The lowest measurement of a trained LoRA: not the untouched model's, and none that was not finite."""
    trained = (measured for measured in losses if measured.step > 0 and measured.loss is not None)
    return min(trained, key=lambda measured: measured.loss, default=None)


def overtraining_began(losses: Sequence[HeldoutLoss], last_step: int) -> HeldoutLoss | None:
    """The lowest measurement, where that of the run's last LoRA is more than 1% above it.

    None where the loss was still low at the end.
    """
    best = best_of(losses)
    last = measured_at(losses, last_step)
    if best is None or last is None or best is last:
        return None
    return best if last.loss is None or last.loss > OVERTRAINED * best.loss else None


def measured_at(losses: Iterable[HeldoutLoss], step: int) -> HeldoutLoss | None:
    """The measurement of the LoRA of a step."""
    return next((measured for measured in losses if measured.step == step), None)
