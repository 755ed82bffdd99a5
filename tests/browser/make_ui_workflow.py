"""Makes the UI workflows in example_workflows/ and their thumbnails, in the real front end.

dadapt_lora.json and .jpg come from the API form, and the templates for full-size models from them
(templates.py). pytest does not collect this file by itself; it uses the tests' server and browser:

    python run.py test tests/browser/make_ui_workflow.py

Run it again whenever dadapt_lora_api.json changes. It loads the API form, puts the nodes where a person finds
them, lets the page save the graph, then runs it from start to end (some minutes) for the pictures in the
thumbnail. DADAPT_LORA_THUMBNAIL_STEPS=3 shortens that.
"""

import io
import json
import os
import shutil

import pytest
from PIL import Image

from devhost.layout import PACK_NAME
from tests.browser.page import FrontEnd, front_end
from tests.browser.templates import OF_THE_DEMO, templates
from tests.conftest import ROOT, find_chromium
from tests.host import graph

UI_FORM = graph.EXAMPLES / "dadapt_lora.json"
THUMBNAIL = UI_FORM.with_suffix(".jpg")
THUMBNAIL_BYTES = 150_000
VIEW = (2560, 1700)  # pixels of the page
MARGIN = 20  # pixels around the groups in the thumbnail
GRAPH_ID = "5f0a3c1e-6f0b-5d0e-9a3b-0dada97107a0"  # else the page makes up a new one each time
VERSION = "0.1.0"
HOST_VERSION = "0.3.75"

# Where each node lies: x, y, width, height of its body, whose title is 30 pixels above. Nodes of one type in
# the API form's order.
LAYOUT = {
    "CheckpointLoaderSimple": [(30, 70, 340, 98)],
    "DAdaptLoadDataset": [(30, 240, 340, 750)],
    "DAdaptLoRAConfig": [(400, 70, 340, 260)],
    "DAdaptOptimizer": [(400, 390, 340, 600)],
    "DAdaptTrain": [(830, 70, 350, 640)],
    "DAdaptSaveLoRA": [(830, 770, 350, 170)],
    "DAdaptTrainingCurves": [(1270, 970, 290, 82)],
    "PreviewImage": [(1590, 970, 620, 450)],
    "CLIPTextEncode": [
        (1270, 70, 290, 100),
        (1270, 230, 290, 80),
        (1270, 540, 290, 100),
        (1270, 700, 290, 80),
    ],
    "EmptyLatentImage": [(1270, 370, 290, 106)],
    "KSampler": [(1590, 70, 290, 262), (1590, 540, 290, 262)],
    "VAEDecode": [(1590, 390, 290, 46), (1590, 860, 290, 46)],
    "SaveImage": [(1910, 70, 300, 320), (1910, 540, 300, 320)],
}
TITLES = {
    "CLIPTextEncode": [
        "prompt, without the LoRA",
        "negative prompt",
        "prompt, with the LoRA",
        "negative prompt",
    ],
    "KSampler": ["KSampler, without the LoRA", "KSampler, with the LoRA"],
    "SaveImage": ["without the LoRA", "with the LoRA"],
}
GROUPS = [
    ("1  Model, pictures, recipe", (0, -20, 770, 1330), "#3f789e"),
    ("2  Train and save", (800, -20, 410, 1160), "#8A5A2B"),
    ("3  Compare: same prompt, same seed; what the run did", (1240, -20, 1000, 1470), "#4B7A4B"),
]
NOTES = [
    (
        "How to use it",
        (400, 1030, 340, 260),
        (
            "Put a folder of 20 to 50 pictures below ComfyUI's input folder, with a caption in a text file"
            " beside each: cat.png, cat.txt. Press R, choose it at Load Dataset, and choose your model at"
            " Load Checkpoint.\n\nPress Run. The node Train shows how it goes; cancel keeps what was trained"
            " until then.\n\n{values}"
        ),
    ),
    (
        "What comes out",
        (830, 1000, 350, 120),
        (
            "The file is in output/loras, and Load LoRA lists it at once. Queueing again trains again only if"
            " something changed, or another workflow ran in between."
        ),
    ),
]


def arrange(workflow: dict) -> dict:
    """The saved graph with every node in its place, titled groups, and notes.

    Nodes also get the name of the pack that they come from.
    """
    places = {kind: iter(boxes) for kind, boxes in LAYOUT.items()}
    titles = {kind: iter(names) for kind, names in TITLES.items()}
    for node in sorted(workflow["nodes"], key=lambda node: node["id"]):
        x, y, width, height = next(places[node["type"]])
        node["pos"] = [x, y]
        node["size"] = [width, height]
        node.pop("title", None)
        if node["type"] in titles:
            node["title"] = next(titles[node["type"]])
        if node["type"] == "KSampler":
            node["widgets_values"][1] = "fixed"  # both pictures keep their seed
        ours = node["type"].startswith("DAdapt")
        node["properties"] |= (
            {"cnr_id": PACK_NAME, "ver": VERSION} if ours else {"cnr_id": "comfy-core", "ver": HOST_VERSION}
        )
    assert not [kind for kind, rest in places.items() if list(rest)], (
        "a node of the layout is not in the API form"
    )
    workflow["id"] = GRAPH_ID
    workflow["groups"] = [
        {"id": number, "title": title, "bounding": list(box), "color": colour, "font_size": 24, "flags": {}}
        for number, (title, box, colour) in enumerate(GROUPS, start=1)
    ]
    for title, (x, y, width, height), text in NOTES:
        workflow["last_node_id"] += 1
        workflow["nodes"].append(
            note(workflow["last_node_id"], title, [x, y], [width, height], text.format(values=OF_THE_DEMO))
        )
    return workflow


def as_file(workflow: dict) -> str:
    return json.dumps(workflow, indent=2, ensure_ascii=False) + "\n"


def note(node_id: int, title: str, position: list[int], size: list[int], text: str) -> dict:
    return {
        "id": node_id,
        "type": "MarkdownNote",
        "title": title,
        "pos": position,
        "size": size,
        "flags": {},
        "order": node_id,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [text],
        "color": "#432",
        "bgcolor": "#653",
    }


def as_saved(opened: FrontEnd) -> str:
    """The graph as the page saves it, without the page's own state: where its view was."""
    workflow = opened.graph()
    workflow["extra"].pop("ds", None)
    return as_file(workflow)


def look_at_groups(opened: FrontEnd) -> dict[str, int]:
    """Draws the graph at scale 1, and returns the part of the page that the groups and their margin fill."""
    left, top, right, bottom = _around([box for _, box, _ in GROUPS])
    offset = [MARGIN - left, MARGIN - top]
    opened.page.evaluate(
        "offset => { app.canvas.ds.scale = 1; app.canvas.ds.offset = offset; app.canvas.setDirty(true,"
        " true); }",
        offset,
    )
    opened.settle()
    return {"x": 0, "y": 0, "width": right - left + 2 * MARGIN, "height": bottom - top + 2 * MARGIN}


def _around(boxes: list[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    x, y, widths, heights = zip(*boxes, strict=True)
    right = max(a + width for a, width in zip(x, widths, strict=True))
    bottom = max(b + height for b, height in zip(y, heights, strict=True))
    return min(x), min(y), right, bottom


def thumbnail(screenshot: bytes) -> bytes:
    """A JPEG of at most THUMBNAIL_BYTES, in half the size."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    for quality in range(92, 30, -4):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True, progressive=True)
        if file.tell() <= THUMBNAIL_BYTES:
            return file.getvalue()
    raise AssertionError(f"no JPEG of {picture.size} has less than {THUMBNAIL_BYTES} bytes")


def run(opened: FrontEnd) -> None:
    """Presses Run and waits for the pictures."""
    steps = os.environ.get("DADAPT_LORA_THUMBNAIL_STEPS")
    if steps:
        opened.set_widget("DAdaptTrain", "duration", int(steps))
    opened.press_run()
    opened.wait_for_pictures(seconds=3000)


@pytest.mark.browser
@pytest.mark.timeout(3600)
def test_make_ui_workflow(server, client):
    shutil.copytree(ROOT / "demo" / "dataset", server.base / "input" / "dadapt_demo", dirs_exist_ok=True)
    with front_end(find_chromium(), client, *VIEW) as opened:
        opened.load_api(graph.example())
        opened.load(arrange(opened.graph()))
        UI_FORM.write_text(as_saved(opened), encoding="utf-8")
        forms = templates(json.loads(as_saved(opened)))
        for name, form in forms.items():
            UI_FORM.with_stem(name).write_text(as_file(form), encoding="utf-8")

        run(opened)
        opened.page.evaluate("() => window.app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
        THUMBNAIL.write_bytes(thumbnail(opened.page.screenshot(clip=look_at_groups(opened))))
        for name in forms:
            shutil.copy(THUMBNAIL, THUMBNAIL.with_stem(name))
