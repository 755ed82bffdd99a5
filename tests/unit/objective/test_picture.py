"""The picture of the noise levels shows what is drawn."""

import numpy as np
import pytest
from comfyui_dadapt_lora.trainer.distribution import LOGIT_NORMAL, Distribution, TokenShift
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.families import FAMILIES
from comfyui_dadapt_lora.trainer.objective import picture as module
from comfyui_dadapt_lora.trainer.objective.picture import (
    colours_of,
    curves_of,
    draw_noise_levels,
    label_width,
)
from comfyui_dadapt_lora.trainer.settings.objective import ObjectiveConfig

OLD, NEW = Distribution(custom="the paper"), Distribution(LOGIT_NORMAL, shift=3.0, custom="a trainer")
CUSTOMS = {"A": OLD, "B": NEW, "C": OLD, "D": Distribution(LOGIT_NORMAL, by_tokens=TokenShift())}


def test_families_of_one_custom_share_a_curve_that_says_whose_it_is():
    assert [curve.label for curve in curves_of(ObjectiveConfig(), CUSTOMS)] == [
        "A, C: uniform (the paper)",
        "B: logit-normal, shift 3 (a trainer)",
        "D: logit-normal, shift by size, 1.65 at 256 tokens to 3.16 at 4096 tokens",
    ]


def test_many_families_are_counted():
    customs = dict.fromkeys("ABCDEFG", OLD)
    assert curves_of(ObjectiveConfig(), customs)[0].label == "A, B, C, D and 3 more: uniform (the paper)"


def test_a_chosen_distribution_is_one_curve():
    (curve,) = curves_of(ObjectiveConfig(noise_levels="logit-normal", shift=2.0), CUSTOMS)
    assert curve.label == "logit-normal, shift 2"


def test_a_family_that_has_nothing_in_the_range_has_no_curve_and_an_empty_choice_is_refused():
    narrow = {"most_noise": 0.01, "shift": 20.0}
    assert curves_of(ObjectiveConfig(**narrow), {"B": NEW}) == []
    draw_noise_levels(ObjectiveConfig(**narrow), {"B": NEW})
    with pytest.raises(SettingError, match="next to nothing"):
        draw_noise_levels(ObjectiveConfig(noise_levels="logit-normal", **narrow), {"B": NEW})


def line_in(picture, colour):
    """For each of ten columns the height of the curve above the axis, in pixels."""
    pixels = np.asarray(picture).astype(int)
    is_line = np.abs(pixels - np.array(colour)).sum(-1) < 150
    axis = module.PLOT_HEIGHT - module.BELOW
    plot = module.WIDTH - module.LEFT - module.RIGHT
    columns = [round(module.LEFT + plot * (tenth + 0.5) / 10) for tenth in range(10)]
    return [axis - np.nonzero(is_line[: axis + 2, column])[0].mean() for column in columns]


def test_the_line_is_as_high_as_the_density():
    config = ObjectiveConfig(noise_levels="logit-normal", shift=3.0)
    (curve,) = curves_of(config, {})
    drawn = draw_noise_levels(config, {})
    assert drawn.size == (module.WIDTH, module.PLOT_HEIGHT + module.LINE_HEIGHT)
    top = max(curve.heights) * 1.1
    room = module.PLOT_HEIGHT - module.TOP - module.BELOW
    expected = [
        room * curve.heights[place * module.POINTS // 10 + module.POINTS // 20] / top for place in range(10)
    ]
    assert np.allclose(line_in(drawn, module.COLOURS[0]), expected, atol=3)


def test_what_is_outside_of_the_range_is_grey():
    drawn = draw_noise_levels(ObjectiveConfig(least_noise=0.3), CUSTOMS)
    middle = module.PLOT_HEIGHT // 2
    assert drawn.getpixel((module.LEFT + 30, middle)) == module.OUTSIDE
    assert drawn.getpixel((module.WIDTH - 30, module.TOP + 4)) == module.PAPER


def test_curves_of_the_table_of_families_can_be_told_apart_and_their_labels_fit():
    curves = curves_of(ObjectiveConfig(), {family.name: family.noise for family in FAMILIES.values()})
    colours = dict(zip((str(curve.drawn.distribution) for curve in curves), colours_of(curves), strict=True))
    assert len(set(colours.values())) == len(colours) > 6
    assert [curve.label for curve in curves if label_width(curve.label) > module.WIDTH] == []
