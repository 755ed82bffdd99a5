"""Runs of the demo's workflow with other settings, and the file that has a line of JSON per run."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from demo.workflow import DemoWorkflow, read_workflow
from devhost.client import Client


def read_rows(file: Path) -> list[dict]:
    """The rows of earlier runs; none where there is no file yet."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def append_row(file: Path, row: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")


def same_run(run: Mapping[str, Any], row: Mapping[str, Any], keys: Iterable[str]) -> bool:
    """Whether a row is of that run: two runs are the same if they are equal in all `keys`."""
    return all(row[key] == run[key] for key in keys)


def parsed_settings(changes: Iterable[str]) -> dict[str, Any]:
    """Settings from NAME=VALUE strings, with values as in JSON."""
    return {name: json.loads(value) for name, value in (change.split("=", 1) for change in changes)}


def prepared_workflow(steps: int, train: Mapping[str, Any], optimizer: Mapping[str, Any]) -> DemoWorkflow:
    """The example workflow with these settings at Train and at its optimizer, and without its pictures."""
    workflow = read_workflow().prepared(steps)
    nodes = workflow.nodes
    inputs = nodes[workflow.train]["inputs"]
    inputs |= train
    nodes[inputs["optimizer"][0]]["inputs"] |= optimizer
    for branch in (workflow.with_lora, workflow.without_lora):
        del nodes[branch.picture]
    return workflow


def reported(client: Client, workflow: DemoWorkflow, keys: Iterable[str]) -> dict[str, Any]:
    """Runs the workflow and returns these entries of its report."""
    report = client.run(workflow.nodes).check().outputs[workflow.train]["dadapt_report"][0]
    return {key: report[key] for key in keys}
