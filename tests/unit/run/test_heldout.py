"""Where overtraining is said to begin, and which LoRA was best."""

from comfyui_dadapt_lora.trainer.run.events import HeldoutLoss
from comfyui_dadapt_lora.trainer.run.heldout import best_of, overtraining_began


def losses(*values):
    return [HeldoutLoss(10 * place, value) for place, value in enumerate(values)]


def began(*values):
    """Of a run whose last LoRA was measured last."""
    return overtraining_began(losses(*values), 10 * (len(values) - 1))


def test_overtraining_begins_at_the_lowest_loss_that_was_left_by_more_than_a_percent():
    assert began(0.10, 0.09, 0.08, 0.085, 0.0809) == HeldoutLoss(20, 0.08)
    assert began(0.10, 0.09, 0.08, 0.085, 0.0807) is None
    assert began(0.10, 0.09, 0.08) is None


def test_the_untouched_model_is_not_the_best_lora():
    assert began(0.05, 0.09, 0.095) == HeldoutLoss(10, 0.09)
    assert began(0.05) is None
    assert overtraining_began([], 0) is None


def test_a_loss_that_is_not_finite_is_never_the_best():
    assert best_of(losses(0.10, None, 0.09, None)) == HeldoutLoss(20, 0.09)
    assert began(0.10, None, 0.09, None) == HeldoutLoss(20, 0.09)
    assert best_of(losses(0.10, None)) is None


def test_what_was_taken_back_at_the_end_is_not_the_end():
    """The LoRA burnt after step 30, and the run ended with that of step 20."""
    assert overtraining_began(losses(0.10, 0.09, 0.08, 0.5), last_step=20) is None
    assert overtraining_began(losses(0.10, 0.08, 0.09, 0.07), last_step=20) == HeldoutLoss(30, 0.07)
