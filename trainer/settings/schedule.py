"""Rate factors: what the learning rate is multiplied by at each step."""

import math

SCHEDULES = ("constant", "cosine")


def warmup_steps(steps: int, warmup_percent: float) -> int:
    """Length of the warmup in steps of a run of `steps`."""
    return round(steps * warmup_percent / 100)


def rate_factor(schedule: str, step: int, steps: int, warmup: int) -> float:
    """The factor at `step`, from 0, of a run of `steps`.

    While it warms up that is (step + 1) / warmup, then what the schedule says. It starts above zero: at rate
    0 in all groups D-Adaptation's step does nothing at all. "cosine" falls over the steps after the warmup to
    just above zero at the last (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5, without restarts).
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
