"""The picture of a run, read back from its pixels."""

import numpy as np
import pytest
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.parts import UNET
from comfyui_dadapt_lora.trainer.record.curves import (
    HELDOUT_COLOUR,
    RATE_COLOURS,
    draw_comparison,
    draw_curves,
    draw_report,
)
from comfyui_dadapt_lora.trainer.run.events import HeldoutLoss

from tests.unit.toy import TEXT_ENCODER

SIZE = (800, 560)


def records(steps=60, text_encoder=True):
    return [
        {
            "step": step,
            "loss": 0.1 if step != 7 else None,
            "loss_average": 0.1,
            "dlr": {UNET: 1e-6 * 1.1**step} | ({TEXT_ENCODER: 0.5e-6 * 1.1**step} if text_encoder else {}),
        }
        for step in range(1, steps + 1)
    ]


def heldout(*losses):
    """Measured every 20 steps."""
    return [HeldoutLoss(20 * place, loss) for place, loss in enumerate(losses)]


def count(picture, colour):
    """Pixels of about this colour."""
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return int((np.abs(np.asarray(picture, dtype=int) - wanted).max(axis=2) < 40).sum())


def test_the_picture_has_the_size_that_was_asked_for():
    assert draw_curves(records(), [], SIZE).size == SIZE


def test_held_out_losses_and_their_best_step_are_drawn():
    without = count(draw_curves(records(), [], SIZE), HELDOUT_COLOUR)
    rising = count(draw_curves(records(), heldout(0.1, 0.06, 0.08, 0.09), SIZE), HELDOUT_COLOUR)
    one = count(draw_curves(records(), heldout(0.1), SIZE), HELDOUT_COLOUR)
    assert without < 20 < one < rising


def test_a_held_out_loss_that_was_not_finite_is_left_out():
    losses = heldout(0.1, 0.06, None, 0.09)
    finite = [measured for measured in losses if measured.loss is not None]
    assert draw_curves(records(), losses, SIZE).tobytes() == draw_curves(records(), finite, SIZE).tobytes()


def test_a_part_that_does_not_train_has_no_line():
    text_encoder = RATE_COLOURS[1]
    both, one = (draw_curves(records(text_encoder=trains), [], SIZE) for trains in (True, False))
    assert count(both, text_encoder) > 200 > 20 > count(one, text_encoder)


def test_rates_are_on_a_log_scale():
    """An exponential is a straight line there: half way to the right it is half way up."""
    picture = np.asarray(draw_curves(records(), [], SIZE), dtype=int)
    rows, columns = np.nonzero(np.abs(picture - np.array([0x1F, 0x77, 0xB4])).max(axis=2) < 40)
    right, left = (
        columns.max(),
        columns[rows.argmax()],
    )  # the legend reaches further to the left, above the line
    top, middle, bottom = (rows[columns == place].max() for place in (right, (left + right) // 2, left))
    assert bottom - top > 100
    assert abs(middle - (top + bottom) / 2) < 0.05 * (bottom - top)


def test_runs_are_compared_in_one_picture():
    runs = {"one": [[(0, 0.1), (10, 0.08)], [(0, 0.1), (10, 0.09)]], "other": [[(0, 0.1), (10, 0.07)]]}
    picture = draw_comparison(runs, SIZE)
    assert picture.size == SIZE
    assert count(picture, "#1f77b4") > 200 and count(picture, "#2a9d4a") > 200


def test_what_is_no_report_is_refused_in_words():
    with pytest.raises(SettingError, match="expected the REPORT of a DAdapt Train node, got dict"):
        draw_report({"loss": [1.0]}, SIZE)
