"""What the figures of benchmarks/growth.py mean, on a network so small that it takes seconds.

No test compares a time with anything.
"""

from dataclasses import asdict

import pytest
import torch
from comfyui_dadapt_lora.benchmarks.growth import (
    CURVES,
    SCALES,
    curves,
    draw,
    markdown,
    measure_curve,
    result_of,
)
from comfyui_dadapt_lora.benchmarks.growth_runs import Bench, Point, Scale
from PIL import Image

SMALL = Scale(narrower=8, side=64, sides=(64, 128), dtype=torch.float32)
OPERATIONS = {"x": [12, 264], "ours": [20, 20], "dadaptation": [600, 13_200]}


@pytest.fixture(scope="module")
def bench():
    return Bench("cpu", SMALL)


@pytest.mark.parametrize("device", SCALES)
def test_the_points_of_a_curve_differ_in_what_is_varied_and_in_nothing_else(device):
    for curve in curves(SCALES[device]).values():
        points = [asdict(point) for point in curve.points(Point(side=512))]
        assert [point.pop(curve.varied) for point in points] == list(curve.values)
        assert all(point == points[0] for point in points)


@pytest.mark.parametrize("device", SCALES)
def test_no_batch_is_smaller_than_it_says(device):
    """A step at batch 8 would otherwise be a step at batch 2 now and then."""
    for curve in curves(SCALES[device]).values():
        assert all(point.pictures % point.batch == 0 for point in curve.points(Point(side=512)))


def test_the_layers_that_are_adapted_are_spread_over_both_parts(bench):
    counts = [bench.adapters(point) for point in curves(SMALL)["layers"].points(Point(side=64))]
    assert [len(adapters) for adapters in counts] == [33, 66, 132, 264]
    assert [sum(adapter.part == "unet" for adapter in adapters) for adapters in counts] == [24, 48, 96, 192]


def test_a_curve_is_measured_told_and_drawn(bench, tmp_path):
    measured = measure_curve("resolution", bench, rounds=2, steps=1)
    assert measured["x"] == [64, 128]
    assert [len(rounds) for rounds in measured["rounds"]] == [2, 2]
    assert all(seconds > 0 for seconds in measured["seconds"])
    result = result_of(bench, {"resolution": measured}, OPERATIONS)
    assert "| resolution | 64 px | 128 px | 4 |" in markdown(result)
    draw(result, tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as figure:
        assert figure.size[0] >= 1200


def test_ratios_are_medians_over_the_rounds_of_the_last_point_over_the_first(bench):
    rounds = [[1.0, 1.0, 1.0], [9.0, 9.0, 9.0], [1.5, 2.0, 100.0]]
    curve = {"x": [1, 2, 3], "seconds": [1.0, 9.0, 2.0], "rounds": rounds}
    result = result_of(bench, dict.fromkeys(CURVES, curve), OPERATIONS)
    assert result["ratios"] == {
        "growth_rank_128_over_4": 2.0,
        "growth_dataset_10000_over_10": 2.0,
        "growth_optimizer_ops_most_over_fewest_layers": 1.0,
    }
