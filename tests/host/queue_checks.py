"""What ComfyUI answers to workflows when they are queued, and nodes when they run with what links may bring;
no model is loaded. Run by test_queue_checks.py.

usage: python queue_checks.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)
"""

import asyncio
import json
import logging
import sys
from copy import deepcopy
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]))
load_pack()

import execution  # noqa: E402
from comfyui_dadapt_lora.nodes import schema  # noqa: E402
from comfyui_dadapt_lora.nodes.extension import DAdaptLoRAExtension  # noqa: E402
from comfyui_dadapt_lora.trainer.errors import TrainerError  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.declare import limits_of  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.objective import ObjectiveConfig  # noqa: E402
from PIL import Image  # noqa: E402

import nodes  # noqa: E402

BASE = Path(sys.argv[2])
SAVED = Path(__file__).with_name("workflows_of_0_1")
HUGE = "x" * 1_000_000
MISSING = "(left out)"
VALUES = {
    "wrapped list": {"__value__": ["a", "b"]},
    "long list": [1, 2, 3],
    "empty list": [],
    "dict": {"a": 1},
    "nothing": None,
    "huge text": HUGE,
    "huge list": {"__value__": [HUGE] * 3},
    "huge number": 10**400,
    "negative": -1,
    "fraction": 16.5,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "text of a number": "16.5",
    "word": "false",
    "true": True,
    "half a character": "\ud800",
    "no characters": "",
    "link to another type": ["2", 1],
    "missing": MISSING,
}
EXECUTED_FIRST = {  # they take no links
    *("DAdaptLoadDataset", "DAdaptLoRAConfig", "DAdaptOptimizer", "DAdaptTrainingObjective")
}
NOT_VALIDATION = ("exception_during_validation", "exception_during_inner_validation")


def stage() -> None:
    for folder in ("train", "heldout"):
        path = BASE / "input" / "dadapt_demo" / folder
        path.mkdir(parents=True)
        for colour in ("red", "blue"):
            Image.new("RGB", (64, 64), colour).save(path / f"{colour}.png")
            (path / f"{colour}.txt").write_text(colour, encoding="utf-8")


def ours() -> dict[str, type]:
    found = {
        node.define_schema().node_id: node for node in asyncio.run(DAdaptLoRAExtension().get_node_list())
    }
    for node in found.values():
        node.GET_SCHEMA()
    return found


def queued(prompt) -> dict:
    """{} where all of it would run; else ComfyUI's answer, as it is sent."""
    valid, error, outputs, node_errors = asyncio.run(
        execution.validate_prompt("test", deepcopy(prompt), None)
    )
    if valid and not node_errors:
        return {}
    return {"error": error, "node_errors": node_errors, "outputs": outputs}


def run(node: type, inputs: dict) -> dict:
    """{} where it ran; else what it raised. Links bring nothing: no node that needs one may come further."""
    values = {name: None if isinstance(value, list) else value for name, value in inputs.items()}
    try:
        node.PREPARE_CLASS_CLONE({}).execute(**values)
        return {}
    except Exception as error:  # whatever it is, the test judges it
        return {"type": type(error).__name__, "ours": isinstance(error, TrainerError), "text": str(error)}


def mutated(prompt):
    """Each input of each of our nodes, set to each of VALUES and to its own value in capitals."""
    for node_id, node in prompt.items():
        if not node["class_type"].startswith("DAdapt"):
            continue
        for name, value in node["inputs"].items():
            others = dict(VALUES)
            if isinstance(value, str):
                others["in capitals"] = value.upper()
            for kind, other in others.items():
                changed = deepcopy(prompt)
                changed[node_id]["inputs"][name] = other
                if other == MISSING:
                    del changed[node_id]["inputs"][name]
                yield f"{node['class_type']} {name}: {kind}", node_id, changed


def fuzzed(found, prompt) -> dict:
    """What was wrong with the answers to mutated prompts, and how many were asked."""
    bare, long, asked, refused = [], [], 0, 0
    for case, node_id, changed in mutated(prompt):
        asked += 1
        answer = queued(changed)
        refused += bool(answer)
        text = json.dumps(answer)
        bare += [f"{case}: {text[:400]}"] * any(kind in text for kind in NOT_VALIDATION)
        node = changed[node_id]
        if not answer and node["class_type"] in EXECUTED_FIRST:
            raised = run(found[node["class_type"]], node["inputs"])
            text = json.dumps(raised)
            bare += [f"{case}, run: {text[:400]}"] * bool(raised and not raised["ours"])
        long += [f"{case}: {len(text)} characters"] * (HUGE[:500] in text or len(text) > 20_000)
    return {"asked": asked, "refused": refused, "bare": bare, "long": long}


def brought_by_links(found, prompt) -> dict:
    """What each node that takes links says where they bring something else."""
    said = {}
    for node in prompt.values():
        kind, inputs = node["class_type"], node["inputs"]
        if kind not in found or kind in EXECUTED_FIRST:
            continue
        links = [name for name, value in inputs.items() if isinstance(value, list)]
        for value in (None, 16, HUGE, {}, [], object()):
            wrong = {name: value for name in links}
            try:
                found[kind].PREPARE_CLASS_CLONE({}).execute(**(inputs | wrong))
                said[f"{kind} {str(value)[:20]}"] = {"ours": False, "text": "it ran"}
            except Exception as error:
                ours = isinstance(error, TrainerError)
                said[f"{kind} {str(value)[:20]}"] = {"ours": ours, "text": f"{type(error).__name__}: {error}"}
    return said


def changed_by(prompt, kind: str, **inputs):
    changed = deepcopy(prompt)
    (node,) = [node for node in changed.values() if node["class_type"] == kind]
    node["inputs"] |= inputs
    return changed


def told(prompt) -> dict:
    """The texts of ComfyUI's answers to what a person would send by mistake."""
    cases = {
        "dim 16.5": ("DAdaptLoRAConfig", {"dim": 16.5}),
        "dim true": ("DAdaptLoRAConfig", {"dim": True}),
        "train_unet 'false'": ("DAdaptLoRAConfig", {"train_unet": "false"}),
        "layers 'Attention'": ("DAdaptLoRAConfig", {"layers": "Attention"}),
        "a field the preset does not use": ("DAdaptOptimizer", {"preset": "AdamW", "d_cap": 0.001}),
        "dtype 'FP16'": ("DAdaptSaveLoRA", {"dtype": "FP16"}),
        "existing_file 'Overwrite'": ("DAdaptSaveLoRA", {"existing_file": "Overwrite"}),
        "lora_config 16": ("DAdaptTrain", {"lora_config": 16}),
        "dataset null": ("DAdaptTrain", {"dataset": None}),
        "optimizer from a LoRA Config": ("DAdaptTrain", {"optimizer": ["3", 0]}),
        "precision 'fp8'": ("DAdaptTrain", {"precision": "fp8"}),
        "objective from a LoRA Config": ("DAdaptTrain", {"objective": ["3", 0]}),
        "objective null": ("DAdaptTrain", {"objective": None}),
        "least noise above most": ("DAdaptTrainingObjective", {"least_noise": 0.5, "most_noise": 0.4}),
        "huber_c without huber": ("DAdaptTrainingObjective", {"huber_c": 0.5}),
        "weighting 'min-snr'": ("DAdaptTrainingObjective", {"weighting": "min-snr"}),
        "an input that is not there": ("DAdaptTrain", {"speed": ["1", 0]}),
        "width 10": ("DAdaptTrainingCurves", {"width": 10}),
        "a list for a folder": ("DAdaptLoadDataset", {"folder": {"__value__": ["a"]}}),
    }
    return {
        name: errors(queued(changed_by(prompt, kind, **inputs))) for name, (kind, inputs) in cases.items()
    }


def with_objective(prompt):
    """The workflow with the node that there was none of when it was saved, every field as it is new."""
    changed = deepcopy(prompt)
    fields = {name: default for name, (default, _) in limits_of(ObjectiveConfig).items()}
    changed["1000"] = {"class_type": "DAdaptTrainingObjective", "inputs": fields}
    (train,) = [node for node in changed.values() if node["class_type"] == "DAdaptTrain"]
    train["inputs"]["objective"] = ["1000", 0]
    return changed


def errors(answer) -> list[str]:
    return [error["details"] for node in answer.get("node_errors", {}).values() for error in node["errors"]]


def accepted(prompt) -> dict:
    """The errors of what has to be taken."""
    cases = {
        "as saved": {},
        "dim 16.0": {"dim": 16.0},
        "dim '16'": {"dim": "16"},
        "train_unet 1": {"train_unet": 1},
        "alpha 16": {"alpha": 16},
    }
    return {name: errors(queued(changed_by(prompt, "DAdaptLoRAConfig", **c))) for name, c in cases.items()}


def linked(prompt) -> list[str]:
    """The errors of a workflow in which a preset comes over a link: what goes with it is not known yet."""
    prompt = changed_by(prompt, "DAdaptOptimizer", preset=["2", 2], adamw_rate=1e-3)
    return errors(queued(prompt))


def without_defaults(found, prompt) -> dict:
    """The errors of the workflow without any of the inputs that may be left out, and what those are."""
    bare, left_out = deepcopy(prompt), {}
    for node in bare.values():
        if node["class_type"] in found:
            optional = found[node["class_type"]].INPUT_TYPES().get("optional", {})
            left_out[node["class_type"]] = sorted(optional.keys() & node["inputs"].keys())
            node["inputs"] = {name: v for name, v in node["inputs"].items() if name not in optional}
    return {"errors": errors(queued(bare)), "left out": left_out}


def read_by_position(found) -> dict:
    """The widgets of the saved UI workflow by name, as the front end takes them: required inputs in their
    order, then optional ones, those that are widgets.
    """
    ui = json.loads((SAVED / "ui.json").read_text(encoding="utf-8"))
    values = {}
    for node in ui["nodes"]:
        if node["type"] in found:
            types = found[node["type"]].INPUT_TYPES()
            inputs = types["required"] | types.get("optional", {})
            widgets = [name for name, (kind, _) in inputs.items() if str(kind) in WIDGETS]
            values[node["type"]] = dict(zip(widgets, node["widgets_values"], strict=False))
    return values


WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def misspelled() -> dict:
    """What a schema with a keyword that no ComfyUI knows says, and one with a keyword of newer ones."""
    schema.schema(node_id="A", search_aliases=["b"], inputs=[])
    try:
        schema.schema(node_id="A", is_ouput_node=True)
    except TypeError as error:
        return {"error": str(error)}
    return {"error": ""}


def main():
    logging.disable(logging.CRITICAL)
    stage()
    found = ours()
    nodes.NODE_CLASS_MAPPINGS.update(found)
    prompt = json.loads((SAVED / "api.json").read_text(encoding="utf-8"))
    newer = with_objective(prompt)
    result = {
        "misspelled": misspelled(),
        "accepted": accepted(prompt),
        "told": told(newer),
        "with an objective": errors(queued(newer)),
        "linked": linked(prompt),
        "without defaults": without_defaults(found, prompt),
        "by position": read_by_position(found),
        "links": brought_by_links(found, newer),
        "fuzzed": fuzzed(found, newer),
    }
    sys.stdout.write(json.dumps(result) + "\n")


main()
