"""One line for a number that means something, and none for an ordinary run."""

from dataclasses import dataclass

import pytest
import torch
from comfyui_dadapt_lora.trainer.parts import UNET
from comfyui_dadapt_lora.trainer.precision import DTYPES, Precision
from comfyui_dadapt_lora.trainer.run.advice import Advice, of_finished_run
from comfyui_dadapt_lora.trainer.run.events import HeldoutLoss, StepRecord
from comfyui_dadapt_lora.trainer.run.result import TrainingResult
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig

from tests.unit.toy import TEXT_ENCODER

STEPS = 100


def record(step, d):
    return StepRecord(
        step=step,
        epoch=1,
        loss=0.1,
        loss_average=0.1,
        d=d,
        dlr={UNET: d, TEXT_ENCODER: None},
        gradient_norm=1.0,
        seconds=1.0,
        peak_memory_mb=None,
    )


@dataclass
class Updates:
    """As large as the test says."""

    share: float | None


def said(d_at, update_share=0.01, **recipe):
    advice = Advice(OptimizerConfig(**recipe), STEPS, Updates(update_share))
    notices = [
        notice for step in range(1, STEPS + 1) for notice in advice.after_step(record(step, d_at(step)))
    ]
    return [*notices, *advice.at_end(STEPS, d_at(STEPS))]


def test_an_ordinary_run_hears_nothing():
    assert said(lambda step: min(1e-3, 1e-6 * 1.2**step)) == []


def test_d_that_has_not_left_its_start_is_told_at_30_percent():
    (notice,) = said(lambda step: 9e-6 if step <= 30 else 1e-3)
    assert notice.step == 30
    assert "after 30% of the run d is 9.0e-06" in notice.text and "raise d0" in notice.text


def test_d_that_has_left_ten_times_its_start_is_not_told():
    assert said(lambda step: 1.01e-5) == []
    assert len(said(lambda step: 9e-5, d0=2e-5)) == 1


def test_a_d0_that_trains_as_it_is_is_not_told():
    assert said(lambda step: 1e-3, d0=1e-3) == []


def test_a_d_that_climbs_as_fast_as_it_may_is_not_told():
    """The default's limit on growth, not the run, is why it is still low."""
    limit = OptimizerConfig().growth_limit(STEPS)
    assert said(lambda step: min(1e-3, 1e-6 * limit ** max(0, step - 10))) == []
    assert len(said(lambda step: min(9e-6, 1e-6 * limit ** max(0, step - 5)) if step <= 30 else 1e-3)) == 1


def test_a_d_that_is_held_low_on_purpose_is_not_told():
    assert said(lambda step: 8e-6, d_cap=8e-6) == []


def test_d_that_still_climbs_at_the_end_is_told():
    (notice,) = said(lambda step: 1e-5 * 1.02**step)
    assert notice.step == STEPS
    assert "still climbing at the end" in notice.text and "train longer" in notice.text


@pytest.mark.parametrize(
    "recipe, may",
    [
        ({"freeze_d_percent": 20.0}, True),
        (vars(OptimizerConfig(preset="Prodigy + schedule-free").resolved()), False),
    ],
)
def test_freezing_d_later_is_advised_only_where_the_preset_lets_it_be_changed(recipe, may):
    (notice,) = said(lambda step: 2e-6 if step <= 30 else 1e-3, **recipe)
    assert ("let d move for longer" in notice.text) is may


@pytest.mark.parametrize("share, told", [(0.049, 0), (0.051, 1), (None, 0)])
def test_updates_that_are_large_against_the_weights_are_told(share, told):
    notices = said(lambda step: 1e-3, update_share=share)
    assert len(notices) == told
    assert all("halve the learning rate (here 1)" in notice.text for notice in notices)


def test_without_d_there_is_nothing_to_say_of_it():
    assert said(lambda step: None, preset="AdamW") == []


def heldout(*losses):
    return [HeldoutLoss(10 * place, loss) for place, loss in enumerate(losses)]


def result(skipped_steps=0, steps=100):
    return TrainingResult(
        steps=steps,
        planned_steps=steps,
        last_step=steps,
        skipped_steps=skipped_steps,
        d_first=1e-6,
        d_last=1e-3,
        update_ratio=None,
        update_share=None,
        burns=(),
        seconds=1.0,
    )


def of_finished(skipped_steps, losses=(), dtype="fp32"):
    precision = Precision(DTYPES[dtype], torch.device("cpu"))
    return list(of_finished_run(result(skipped_steps), heldout(*losses), precision))


def test_steps_that_were_left_out_are_counted_in_the_report():
    assert of_finished(0) == []
    (warning,) = of_finished(3)
    assert warning.startswith("3 of 100 steps gave numbers that were not finite and changed nothing")


def test_a_few_skipped_steps_are_usual_in_fp16_alone():
    assert "in fp16 a few are usual" in of_finished(3, dtype="fp16")[0]
    for dtype in ("fp32", "bf16"):
        (warning,) = of_finished(3, dtype=dtype)
        assert "usual" not in warning and "Check that the model" in warning
    assert "usual" not in of_finished(30, dtype="fp16")[0]


def test_a_run_that_mostly_skipped_says_so_in_strong_words():
    (warning,) = of_finished(51, dtype="fp16")
    assert warning.startswith("THIS RUN TRAINED LITTLE: 51 of 100 steps")
    assert "Do not rely on this LoRA" in warning and "bf16 or fp32" in warning


@pytest.mark.parametrize(
    "losses, told",
    [
        ((0.10, 0.11, 0.10), True),
        ((0.10, 0.11, 0.0999), False),
        ((0.10, 0.09, 0.11), False),  # the best one counts, not the last
        ((0.10, None, 0.11), True),
        ((0.10, None), False),
        ((None, 0.11), False),
        ((), False),
    ],
)
def test_a_lora_that_is_never_better_than_the_untouched_model_is_told(losses, told):
    warnings = of_finished(0, losses)
    assert len(warnings) == told
    assert all("never below the untouched model's" in warning for warning in warnings)
