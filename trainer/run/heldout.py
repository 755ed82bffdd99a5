"""Held-out pictures during a run: when they are measured, which LoRA was best, and where overtraining
began.
"""

from collections.abc import Iterable, Sequence

from .events import HeldoutLoss

SHARE_OF_TIME = 0.2  # of the training's, that measuring may take when nobody has said how often
FEWEST, MOST = 4, 20  # measurements a run
OVERTRAINED = 1.01  # the last loss over the best one


def measured_steps(steps: int, batch_size: int, samples: int, every: int) -> set[int]:
    """After which steps of a run a grid of `samples` is measured; always after the last. `every` 0: as often
    as is cheap.

    A step costs three forward passes of its batch (backward takes two), a measurement one of its grid.
    """
    if every == 0:
        affordable = SHARE_OF_TIME * 3 * batch_size * steps / samples
        every = max(1, round(steps / min(MOST, max(FEWEST, affordable))))
    return {*range(every, steps, every), steps}


def best_of(losses: Iterable[HeldoutLoss]) -> HeldoutLoss | None:
    """The lowest measurement of a trained LoRA: not the untouched model's, and none that was not finite."""
    trained = (measured for measured in losses if measured.step > 0 and measured.loss is not None)
    return min(trained, key=lambda measured: measured.loss, default=None)


def overtraining_began(losses: Sequence[HeldoutLoss]) -> HeldoutLoss | None:
    """The lowest measurement, where the last one is more than 1% above it;

    None where the loss was still low at the end.
    """
    best = best_of(losses)
    if best is None or best is losses[-1]:
        return None
    last = losses[-1].loss
    return best if last is None or last > OVERTRAINED * best.loss else None
