"""How fast d may grow when nobody has set a limit."""

USEFUL_D = 5e-4
# d reaches it at this share of the run or after so many steps, whichever is earlier, counted from the step
# where d starts to move
REACHED_AT, REACHED_AFTER = 0.64, 128


def auto_growth(d0: float, steps: int) -> float:
    """The growth rate at which d reaches 5e-4 in two thirds of the run, in 128 steps at most.

    That holds when all gradients agree.

    Measured on the demo's model, where AdamW does best at 5e-4 to 1e-3: without a limit d passes through
    there at x1.3 to x2 per step, stops at 2e-3 to 4e-3, and breaks shapes on the way. At 5% a step, which the
    128 steps are, the network has time to answer.
    """
    return max(1.0, (USEFUL_D / d0) ** (1 / min(REACHED_AT * steps, REACHED_AFTER)))
