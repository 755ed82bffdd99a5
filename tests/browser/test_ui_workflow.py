"""The saved UI workflow in the real front end.

It opens without a red node, means what the API form means, and runs from the Run button.
"""

import json
import os
from pathlib import Path

import pytest

from tests.browser.page import front_end
from tests.conftest import find_chromium
from tests.host import graph

pytestmark = pytest.mark.browser

UI_FORM = graph.EXAMPLES / "dadapt_lora.json"
STEPS = 2
# Settings that came after version 0.1, at what a workflow of 0.1 means without them
ADDED = {
    "DAdaptLoRAConfig": {"text_encoders": "auto", "conv_dim": 0, "include": "", "exclude": ""},
    "DAdaptTrain": {"pictures_at_once": 0},
}


@pytest.fixture(scope="module")
def workflow():
    return json.loads(UI_FORM.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def front(client):
    with front_end(find_chromium(), client) as opened:
        yield opened


@pytest.fixture
def opened(front, workflow):
    """The page with the saved workflow in it. No test may end with an error that the page reports."""
    front.page.keyboard.press("Escape")  # a dialog that the test before has left open
    front.load(workflow)
    yield front
    assert front.page_errors == []
    assert front.errors_of_this_pack == []


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Where screenshots are left; DADAPT_LORA_SCREENSHOTS names another folder."""
    named = os.environ.get("DADAPT_LORA_SCREENSHOTS")
    return Path(named) if named else tmp_path_factory.mktemp("screenshots")


UNKNOWN_NODES = (
    "() => app.graph.nodes.filter(n => n.has_errors || !(n.type in LiteGraph.registered_node_types)).map(n =>"
    " n.type)"
)


def complaints(opened) -> list[str]:
    """The text of each dialog that lies over the graph, as the one that names missing nodes does."""
    return [dialog.inner_text() for dialog in opened.page.locator(".p-dialog").all()]


def test_every_node_is_found_and_no_dialog_opens(opened, workflow, screenshots):
    assert opened.page.evaluate(UNKNOWN_NODES) == []
    assert complaints(opened) == []
    assert len(opened.graph()["nodes"]) == len(workflow["nodes"])
    opened.screenshot(screenshots / "opened.png")


def test_missing_node_would_be_seen(opened, workflow):
    """The checks of the test above do fail for a node that is not installed."""
    changed = json.loads(json.dumps(workflow).replace('"DAdaptTrain"', '"NotInstalledHere"'))
    opened.load(changed)
    assert opened.page.evaluate(UNKNOWN_NODES) == ["NotInstalledHere"]
    (dialog,) = complaints(opened)
    assert "NotInstalledHere" in dialog


def canonical(workflow: graph.Workflow) -> dict[str, dict]:
    """The workflow with "KSampler 2" (the second by id) in place of ids, and without titles."""
    names = {}
    counts = {}
    for node_id in sorted(workflow, key=int):
        kind = workflow[node_id]["class_type"]
        counts[kind] = counts.get(kind, 0) + 1
        names[node_id] = f"{kind} {counts[kind]}"

    def named(value):
        return [names[value[0]], value[1]] if isinstance(value, list) else value

    return {
        names[node_id]: {key: named(value) for key, value in node["inputs"].items()}
        for node_id, node in workflow.items()
    }


def test_page_exports_the_api_form_that_is_shipped(opened):
    """They have the same nodes, links and values.

    If this fails, the API form has changed: `run.py test tests/browser/make_ui_workflow.py` makes the UI
    workflows anew.
    """
    assert canonical(opened.api_form()) == canonical(graph.example())


def test_a_workflow_saved_by_version_0_1_still_means_what_its_api_form_means(opened):
    """The page fills widgets by their position. Optional inputs are widgets at the place of required ones."""
    saved = Path(graph.__file__).with_name("workflows_of_0_1")
    opened.load(json.loads((saved / "ui.json").read_text(encoding="utf-8")))
    then = json.loads((saved / "api.json").read_text(encoding="utf-8"))
    for node in then.values():
        node["inputs"] |= ADDED.get(node["class_type"], {})
    assert canonical(opened.api_form()) == canonical(then)


def widgets(opened, kind: str) -> list[str]:
    names = "kind => app.graph.nodes.find(n => n.type === kind).widgets.map(w => w.name)"
    return opened.page.evaluate(names, kind)


def test_seed_of_train_is_not_randomised_after_each_queue(opened):
    """The KSampler beside it has such a widget: the page does add one where it is not told otherwise."""
    training = [
        "duration",
        "duration_unit",
        "batch_size",
        "seed",
        "precision",
        "measure_every",
        "hand_on",
        "save_every",
        "checkpointing",
        "pictures_at_once",
    ]
    assert widgets(opened, "DAdaptTrain") == training
    assert "control_after_generate" in widgets(opened, "KSampler")


CONNECT = """([output, kind, input]) => {
    const train = app.graph.nodes.find(n => n.type === 'DAdaptTrain')
    const other = LiteGraph.createNode(kind)
    app.graph.add(other)
    const from = train.outputs.findIndex(o => o.name === output)
    const to = other.inputs.findIndex(i => i.name === input)
    const link = train.connect(from, other, to)
    const connected = !!link && other.inputs.find(i => i.name === input).link != null
    app.graph.remove(other)
    return connected
}"""


@pytest.mark.parametrize(
    ("output", "kind", "its_input", "fits"),
    [
        ("REPORT", "LossGraphNode", "loss", True),
        ("LORA_MODEL", "LoraModelLoader", "lora", True),
        ("LORA_MODEL", "SaveLoRA", "lora", True),
        ("REPORT", "SaveImage", "images", False),
        ("LORA_MODEL", "LossGraphNode", "loss", False),
    ],
)
def test_outputs_of_train_can_be_wired_to_comfyuis_own_nodes(opened, output, kind, its_input, fits):
    assert opened.page.evaluate(CONNECT, [output, kind, its_input]) is fits


def test_nodes_are_in_the_menu(opened):
    categories = opened.page.evaluate(
        "() => Object.values(LiteGraph.registered_node_types).map(t => t.category)"
    )
    assert categories.count("training/DAdapt LoRA") == 7


TEXT_ON_TRAIN = (
    "() => app.graph.nodes.find(n => n.type === 'DAdaptTrain').widgets.map(w => String(w.value)).join('\\n')"
)
CONTACT_SHEET = "() => app.graph.nodes.find(n => n.type === 'DAdaptLoadDataset').imgs?.length"


def test_runs_from_the_run_button_to_the_end(opened, screenshots):
    opened.set_widget("DAdaptTrain", "duration", STEPS)
    opened.set_widget("KSampler", "steps", 2)
    opened.press_run()
    opened.wait_for_pictures(seconds=300)
    opened.page.wait_for_function(f"() => ({TEXT_ON_TRAIN})().includes('{STEPS} steps')", timeout=10_000)
    assert opened.page.evaluate(CONTACT_SHEET) == 1
    assert complaints(opened) == []
    opened.fit()
    opened.screenshot(screenshots / "finished.png")
