"""What benchmarks store and compare. Nothing here measures time."""

import json

import pytest
from comfyui_dadapt_lora.benchmarks import results
from comfyui_dadapt_lora.benchmarks.train import paired_ratio, spread, with_worst

from devhost.errors import HostError


def stored(ratios, medians):
    return {
        "date": "2026-01-01",
        "command": "",
        "machine": {},
        "ratios": ratios,
        "train": {"medians": medians},
    }


def rows(table):
    """{figure: [now, before, now over before]}"""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: cells for name, *cells in lines}


def test_compare_finds_a_slower_figure():
    now = stored({"step": 0.6}, {"ours, s": 3.0})
    before = stored({"step": 0.6}, {"ours, s": 2.0})
    compared = rows(results.compare(now, before))
    assert compared["train: ours, s"] == ["3", "2", "1.50"]
    assert compared["step"] == ["0.6", "0.6", "1.00"]


def test_compare_tells_what_is_missing_in_one_of_the_two():
    compared = rows(
        results.compare(stored({"new": 1.0, "both": 1.0}, {}), stored({"both": 1.0}, {"old, s": 2.0}))
    )
    assert compared["new"] == ["1", "missing", "-"]
    assert compared["train: old, s"] == ["missing", "2", "-"]
    assert next(iter(compared)) == "both"


def test_ratios_are_ours_over_theirs_pair_by_pair():
    """A machine that becomes ten times slower slows both steps of a pair, and does not change their ratio."""
    assert paired_ratio(ours=[1, 1, 10], theirs=[2, 2, 20]) == 0.5


def test_the_plain_name_is_the_worst_of_all_cases():
    ratios = with_worst({"step/demo/b1": 0.4, "step/sd15/b4": 0.7, "step_checkpointed/demo/b1": 0.9})
    assert ratios["step"] == 0.7
    assert ratios["step_checkpointed"] == 0.9
    assert ratios["step/demo/b1"] == 0.4


def test_spread_is_median_and_quartiles():
    assert spread([5, 1, 2, 3, 4]) == {"median": 3, "low": 2, "high": 4, "mean": 3}
    assert spread([2.0])["median"] == 2.0


def test_one_flat_object_has_the_ratios_of_all_benchmarks(tmp_path):
    measured = {"train": {"ratios": {"a": 0.5}}, "memory": {"ratios": {"b": 0.3}}, "growth": {"curves": []}}
    results.write(results.collected(measured, ["all"], "cpu"), tmp_path / "new" / "file.json")
    found = results.read(tmp_path / "new" / "file.json")
    assert found["ratios"] == {"a": 0.5, "b": 0.3}
    assert found["command"] == "python run.py bench all"
    assert found["memory"] == measured["memory"]
    assert {"processor", "gpu", "threads", "torch", "python", "comfyui", "commit", "changed"} <= found[
        "machine"
    ].keys()


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"step": 1})])
def test_a_file_that_is_none_of_ours_is_refused_by_name(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(HostError, match=r"other\.json"):
        results.read(file)
