"""Workflows in API form for the tests, cut out of the example workflow, so that they change with it."""

import json
from copy import deepcopy
from pathlib import Path

Workflow = dict[str, dict]

EXAMPLES = Path(__file__).resolve().parents[2] / "example_workflows"
EXAMPLE = EXAMPLES / "api" / "dadapt_lora_api.json"
SHORT = {"duration": 2, "duration_unit": "steps", "batch_size": 1, "precision": "fp32"}
# With this recipe a few steps already change pictures: d starts where a usual run ends.
EAGER = {"d0": 1e-3, "warmup_percent": 0.0, "growth_rate": 10.0}


def example() -> Workflow:
    """The example workflow as it is shipped."""
    return json.loads(EXAMPLE.read_text(encoding="utf-8"))


def nodes_of(workflow: Workflow, class_type: str) -> list[str]:
    """Ids of the nodes of this type, in the file's order."""
    return [node_id for node_id, node in workflow.items() if node["class_type"] == class_type]


def node_of(workflow: Workflow, class_type: str) -> str:
    """Id of the one node of this type."""
    (node_id,) = nodes_of(workflow, class_type)
    return node_id


def settings(workflow: Workflow, class_type: str) -> dict:
    """The inputs of the one node of this type, to read and to change."""
    return workflow[node_of(workflow, class_type)]["inputs"]


def training(folder: str, seed: int = 0, **run) -> Workflow:
    """Checkpoint, Load Dataset, LoRA Config, DAdapt Optimizer and Train of the example, with two short steps
    on `folder`.
    """
    workflow = only_upstream(example(), "DAdaptTrain")
    settings(workflow, "DAdaptLoadDataset").update(folder=folder, heldout_folder="none")
    settings(workflow, "DAdaptTrain").update(SHORT | {"seed": seed} | run)
    return workflow


def only_upstream(workflow: Workflow, class_type: str) -> Workflow:
    """The one node of this type and everything that it needs."""
    wanted, found = [node_of(workflow, class_type)], {}
    while wanted:
        node_id = wanted.pop()
        found[node_id] = deepcopy(workflow[node_id])
        wanted += [value[0] for value in workflow[node_id]["inputs"].values() if isinstance(value, list)]
    return {node_id: found[node_id] for node_id in workflow if node_id in found}


def add(workflow: Workflow, class_type: str, **inputs) -> str:
    """Adds a node and returns its id."""
    node_id = str(max(map(int, workflow), default=0) + 1)
    workflow[node_id] = {"class_type": class_type, "inputs": inputs}
    return node_id


def loader(workflow: Workflow) -> str:
    return node_of(workflow, "CheckpointLoaderSimple")


def add_sampler(workflow: Workflow, model: list, clip: list, seed: int = 1, steps: int = 3) -> str:
    """Adds a KSampler, set as in the example, and what it needs, for MODEL and CLIP given as links; returns
    its id.
    """
    positive, negative = (add(workflow, "CLIPTextEncode", text=text, clip=clip) for text in ("red apple", ""))
    latent = add(workflow, "EmptyLatentImage", width=128, height=128, batch_size=1)
    inputs = deepcopy(example()[nodes_of(example(), "KSampler")[0]]["inputs"])
    inputs |= {
        "model": model,
        "positive": [positive, 0],
        "negative": [negative, 0],
        "latent_image": [latent, 0],
    }
    return add(workflow, "KSampler", **(inputs | {"seed": seed, "steps": steps}))


def add_picture(workflow: Workflow, model: list, clip: list, seed: int = 1) -> str:
    """Adds a sampled picture; returns the id of its Save Image node."""
    samples = add_sampler(workflow, model, clip, seed)
    pixels = add(workflow, "VAEDecode", samples=[samples, 0], vae=[loader(workflow), 2])
    return add(workflow, "SaveImage", images=[pixels, 0], filename_prefix="test")


def add_lora_picture(workflow: Workflow, lora_name: str, seed: int = 1) -> str:
    """Adds a picture by the checkpoint with a LoRA file on it, through the host's own Load LoRA; returns the
    id of its Save Image node.
    """
    lora = add_load_lora(workflow, lora_name)
    return add_picture(workflow, [lora, 0], [lora, 1], seed)


def add_load_lora(
    workflow: Workflow, lora_name: str, model: list | None = None, clip: list | None = None
) -> str:
    """Adds the host's own Load LoRA at strength 1, on the checkpoint's MODEL and CLIP where no others are
    given; returns its id.
    """
    model, clip = model or [loader(workflow), 0], clip or [loader(workflow), 1]
    return add(
        workflow,
        "LoraLoader",
        model=model,
        clip=clip,
        lora_name=lora_name,
        strength_model=1.0,
        strength_clip=1.0,
    )


def add_training(workflow: Workflow, **changed) -> str:
    """Adds a Train node like the one that is there, with other settings or links; returns its id."""
    return add(
        workflow, "DAdaptTrain", **(workflow[nodes_of(workflow, "DAdaptTrain")[0]]["inputs"] | changed)
    )


def checkpoint() -> Workflow:
    """The example's checkpoint loader alone."""
    return only_upstream(example(), "CheckpointLoaderSimple")


def base_sample(seed: int = 1) -> tuple[Workflow, str, str]:
    """The untouched model samples: the workflow, the ids of the KSampler and of the Save Latent node."""
    workflow = checkpoint()
    sampler = add_sampler(workflow, [loader(workflow), 0], [loader(workflow), 1], seed)
    return workflow, sampler, add(workflow, "SaveLatent", samples=[sampler, 0], filename_prefix="test")
