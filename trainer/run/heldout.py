"""What measurements of held-out pictures say: which LoRA was best, and where overtraining began."""

from collections.abc import Iterable, Sequence

from .events import HeldoutLoss

OVERTRAINED = 1.01  # the last loss over the best one


def best_of(losses: Iterable[HeldoutLoss]) -> HeldoutLoss | None:
    """The lowest measurement of a trained LoRA: not the untouched model's, and none that was not finite."""
    trained = (measured for measured in losses if measured.step > 0 and measured.loss is not None)
    return min(trained, key=lambda measured: measured.loss, default=None)


def overtraining_began(losses: Sequence[HeldoutLoss]) -> HeldoutLoss | None:
    """The lowest measurement, where the last one is more than 1% above it.

    None where the loss was still low at the end.
    """
    best = best_of(losses)
    if best is None or best is losses[-1]:
        return None
    last = losses[-1].loss
    return best if last is None or last > OVERTRAINED * best.loss else None
