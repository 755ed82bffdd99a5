"""The templates for full-size models, each made from the demo's graph as the page saved it."""

from collections.abc import Mapping
from copy import deepcopy

OF_THE_DEMO = (
    "This is the demo's run: its small model, 128 pixels, 200 steps, its held-out pictures. For a full-size"
    " model open the template dadapt_lora_sd15, dadapt_lora_sdxl or dadapt_lora_z_image."
)
HELD_OUT = "a tenth of the pictures is held out, to see when it overtrains."
OF_SD15 = f"512 pixels and 1000 steps are for SD 1.5; {HELD_OUT}"
OF_SDXL = f"1024 pixels and 1500 steps are for SDXL and the models that come from it; {HELD_OUT}"
OF_Z_IMAGE = (
    "1024 pixels and 1500 steps are for Z-Image. Flux, Qwen-Image and other models are loaded the same way,"
    f" by three nodes; their text encoders stay as they are. {HELD_OUT.capitalize()}"
)
PROMPT = "what a caption of yours says"
Widgets = Mapping[str, Mapping[int, object]]  # by the type of the node and the place of the widget


def _widgets(side: int, steps: int, cfg: float, **others: Mapping[int, object]) -> Widgets:
    """What differs from the demo's."""
    return {
        "DAdaptLoadDataset": {0: "my_pictures", 2: side, 3: 0.1, 4: "none"},
        "DAdaptTrain": {0: steps, 2: 1, 5: 0},
        "DAdaptSaveLoRA": {0: "my_lora"},
        "EmptyLatentImage": {0: side, 1: side},
        "KSampler": {3: cfg},
        **others,
    }


SD15 = _widgets(512, 1000, 7, CheckpointLoaderSimple={0: "v1-5-pruned-emaonly-fp16.safetensors"})
SDXL = _widgets(1024, 1500, 7, CheckpointLoaderSimple={0: "sd_xl_base_1.0.safetensors"})
Z_IMAGE = _widgets(1024, 1500, 4, KSampler={2: 30, 3: 4, 4: "euler", 5: "simple"})
# The nodes that load Z-Image in place of a checkpoint: widgets, output, y and height
LOADERS = {
    "UNETLoader": (["z_image_bf16.safetensors", "default"], "MODEL", 0, 82),
    "CLIPLoader": (["qwen_3_4b.safetensors", "lumina2", "default"], "CLIP", 1, 106),
    "VAELoader": (["ae.safetensors"], "VAE", 2, 58),
}


def templates(demo: dict) -> dict[str, dict]:
    """The graphs by the name of their file, made from the demo's."""
    return {
        "dadapt_lora_sd15": _changed(demo, SD15, OF_SD15),
        "dadapt_lora_sdxl": _changed(demo, SDXL, OF_SDXL),
        "dadapt_lora_z_image": _with_three_loaders(_changed(demo, Z_IMAGE, OF_Z_IMAGE)),
    }


def _changed(demo: dict, widgets: Widgets, note: str) -> dict:
    """The demo's graph, changed for another model and a person's own pictures."""
    workflow = deepcopy(demo)
    for node in workflow["nodes"]:
        for place, value in widgets.get(node["type"], {}).items():
            node["widgets_values"][place] = value
        if node.get("title", "").startswith("prompt"):
            node["widgets_values"][0] = PROMPT
        if node["type"] == "MarkdownNote":
            node["widgets_values"][0] = node["widgets_values"][0].replace(OF_THE_DEMO, note)
    return workflow


def _with_three_loaders(workflow: dict) -> dict:
    """MODEL, CLIP and VAE come from a node each, and latents are those of a flow model."""
    (checkpoint,) = [node for node in workflow["nodes"] if node["type"] == "CheckpointLoaderSimple"]
    workflow["nodes"].remove(checkpoint)
    left, top = checkpoint["pos"]
    for kind, (widgets, output, slot, height) in LOADERS.items():
        workflow["last_node_id"] += 1
        number = workflow["last_node_id"]
        links = checkpoint["outputs"][slot]["links"]
        workflow["nodes"].append(
            {
                "id": number,
                "type": kind,
                "pos": [left, top],
                "size": [checkpoint["size"][0], height],
                "flags": {},
                "order": slot,
                "mode": 0,
                "inputs": [],
                "outputs": [{"name": output, "type": output, "slot_index": 0, "links": links}],
                "properties": checkpoint["properties"] | {"Node name for S&R": kind},
                "widgets_values": widgets,
            }
        )
        for link in workflow["links"]:
            if link[0] in (links or ()):
                link[1:3] = [number, 0]
        top += height + 50
    for node in workflow["nodes"]:
        if node["type"] == "EmptyLatentImage":
            node["type"] = "EmptySD3LatentImage"
            node["properties"]["Node name for S&R"] = "EmptySD3LatentImage"
        if node["type"] == "DAdaptLoadDataset":
            moved = top - node["pos"][1]
            node["pos"][1], node["size"][1] = top, node["size"][1] - moved
    return workflow
