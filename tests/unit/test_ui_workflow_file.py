"""The saved UI workflow as a file: where its nodes come from, where they lie, and nothing of the machine that
it was made on.
"""

import itertools
import json
import re

import pytest

from tests.browser.make_ui_workflow import UI_FORM
from tests.browser.templates import templates
from tests.conftest import ROOT

TITLE_HEIGHT = 30


DEMO = json.loads(UI_FORM.read_text(encoding="utf-8"))
TEMPLATES = templates(DEMO)


@pytest.fixture(params=["dadapt_lora", *TEMPLATES])
def workflow(request):
    return json.loads(UI_FORM.with_stem(request.param).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_the_demos_graph_with_what_their_model_needs(name):
    assert json.loads(UI_FORM.with_stem(name).read_text(encoding="utf-8")) == TEMPLATES[name] != DEMO


def test_nodes_say_which_pack_and_version_they_come_from(workflow):
    """So that a person who lacks the pack is told what to install."""
    project = dict(
        re.findall(
            r'^(name|version) = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    ours = [node for node in workflow["nodes"] if node["type"].startswith("DAdapt")]
    assert len(ours) == 6
    assert {(node["properties"]["cnr_id"], node["properties"]["ver"]) for node in ours} == {
        (project["name"], project["version"])
    }
    others = [node for node in workflow["nodes"] if node not in ours and node["type"] != "MarkdownNote"]
    assert {node["properties"]["cnr_id"] for node in others} == {"comfy-core"}


def test_no_path_of_any_machine(workflow):
    found = re.findall(
        r'"(?:/|~|[A-Za-z]:[\\/]|\\\\)[^"]*"|/(?:home|Users|tmp|root|work)/|localhost|127\.0\.0\.1',
        json.dumps(workflow),
    )
    assert found == []


def boxes(workflow) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right, bottom of each node with its title bar."""
    return {
        f"{node['id']} {node['type']}": (x, y - TITLE_HEIGHT, x + width, y + height)
        for node in workflow["nodes"]
        for (x, y), (width, height) in [(node["pos"], node["size"])]
    }


def test_no_node_lies_over_another(workflow):
    def overlap(a, b):
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

    placed = boxes(workflow)
    assert [
        pair for pair in itertools.combinations(placed, 2) if overlap(placed[pair[0]], placed[pair[1]])
    ] == []


def test_every_node_lies_in_one_titled_group(workflow):
    assert [group["title"][0] for group in workflow["groups"]] == ["1", "2", "3"]
    for name, (left, top, right, bottom) in boxes(workflow).items():
        around = [
            group["title"]
            for group in workflow["groups"]
            for x, y, width, height in [group["bounding"]]
            if x <= left and y <= top and right <= x + width and bottom <= y + height
        ]
        assert len(around) == 1, name


def test_both_pictures_keep_their_seed(workflow):
    """Else the second queue would compare two different noises."""
    samplers = [node["widgets_values"] for node in workflow["nodes"] if node["type"] == "KSampler"]
    assert samplers[0] == samplers[1] and samplers[0][1] == "fixed"
