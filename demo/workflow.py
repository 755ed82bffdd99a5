"""Reads and changes the example workflow (API form). Nodes are found by what they are, never by their id."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from devhost.client import Workflow
from devhost.errors import HostError
from devhost.layout import CHECKOUT

EXAMPLE = CHECKOUT / "example_workflows" / "api" / "dadapt_lora_api.json"


@dataclass(frozen=True)
class Branch:
    """The ids of the nodes on one way from a model to a picture."""

    sampler: str
    prompt: str
    picture: str


@dataclass(frozen=True)
class DemoWorkflow:
    """The example workflow and the nodes in it that the demo sets or asks."""

    nodes: Workflow
    dataset: str
    train: str
    save: str
    without_lora: Branch
    with_lora: Branch

    @property
    def trigger_word(self) -> str:
        return self.nodes[self.dataset]["inputs"]["trigger_word"]

    def prepared(self, steps: int | None) -> "DemoWorkflow":
        """A copy with that many steps, if given, that overwrites the LoRA file of an earlier demo."""
        nodes = deepcopy(self.nodes)
        nodes[self.save]["inputs"]["existing_file"] = "overwrite"
        if steps is not None:
            nodes[self.train]["inputs"] |= {"duration": steps, "duration_unit": "steps"}
        return DemoWorkflow(**(vars(self) | {"nodes": nodes}))

    def asking_for(self, prompt: str, seed: int) -> Workflow:
        """The graph with that prompt and seed on both branches."""
        nodes = deepcopy(self.nodes)
        for branch in (self.without_lora, self.with_lora):
            nodes[branch.prompt]["inputs"]["text"] = prompt
            nodes[branch.sampler]["inputs"]["seed"] = seed
        return nodes


def read_workflow(file: Path = EXAMPLE) -> DemoWorkflow:
    """Reads the workflow. Raises HostError where it lacks a node that the demo needs."""
    nodes = json.loads(file.read_text(encoding="utf-8"))
    train = _only(nodes, "DAdaptTrain")
    branches = [_branch(nodes, picture) for picture in _of_type(nodes, "SaveImage")]
    with_lora = [branch for branch in branches if train in _ancestors(nodes, branch.sampler)]
    without_lora = [branch for branch in branches if branch not in with_lora]
    if len(with_lora) != 1 or len(without_lora) != 1:
        raise HostError(
            f"Expected one Save Image behind Train and one that is not, in {file.name}; found"
            f" {len(with_lora)} and {len(without_lora)}."
        )
    dataset = _only(nodes, "DAdaptLoadDataset")
    save = _only(nodes, "DAdaptSaveLoRA")
    return DemoWorkflow(nodes, dataset, train, save, without_lora[0], with_lora[0])


def _branch(nodes: Workflow, picture: str) -> Branch:
    samplers = [node for node in _ancestors(nodes, picture) if nodes[node]["class_type"] == "KSampler"]
    if len(samplers) != 1:
        raise HostError(f"Expected one KSampler behind Save Image (node {picture}), found {len(samplers)}.")
    return Branch(samplers[0], prompt=nodes[samplers[0]]["inputs"]["positive"][0], picture=picture)


def _ancestors(nodes: Workflow, node_id: str) -> set[str]:
    """All nodes that this one needs, directly or not."""
    found: set[str] = set()
    waiting = [node_id]
    while waiting:
        sources = set(_sources(nodes[waiting.pop()])) - found
        found |= sources
        waiting += sources
    return found


def _sources(node: dict) -> Iterator[str]:
    """The ids of the nodes that this one gets inputs from: a linked input is [node id, output number]."""
    return (value[0] for value in node["inputs"].values() if isinstance(value, list))


def _of_type(nodes: Workflow, class_type: str) -> list[str]:
    return [node_id for node_id, node in nodes.items() if node["class_type"] == class_type]


def _only(nodes: Workflow, class_type: str) -> str:
    found = _of_type(nodes, class_type)
    if len(found) != 1:
        raise HostError(f"Expected one {class_type} in the example workflow, found {len(found)}.")
    return found[0]
