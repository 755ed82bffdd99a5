"""Rate factors: what the learning rate is multiplied by at each step."""


def warmup_steps(steps: int, warmup_percent: float) -> int:
    """Length of the warmup in steps of a run of `steps`."""
    return round(steps * warmup_percent / 100)


def constant_with_warmup(step: int, warmup: int) -> float:
    """(k + 1) / N while it warms up, then 1. Starts above zero: at rate 0 in all groups D-Adaptation's step does nothing at all."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0
