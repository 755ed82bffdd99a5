"""Does the default recipe learn on every seed? The demo's workflow at batch 1, 2 and 4 on five seeds, with any optimizer settings.

    python run.py bench safeguard [--seeds 5] [--batches 1 2 4] [--steps 200] [--set growth_rate=1.1 ...] [--json FILE]

Each run is a line in the JSON file. Interrupted, it goes on where it stopped. On two CPU cores all 15 runs take about 50 minutes.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.stage import stage_checkpoint, stage_dataset
from demo.workflow import DemoWorkflow, read_workflow
from devhost.client import Client
from devhost.console import give_result, say
from devhost.layout import Host, default_base
from devhost.server import HostServer


def main(arguments: list[str]) -> None:
    options = _parse(arguments)
    done = _read(options.json)
    wanted = [run for run in _runs(options) if not any(_same_run(run, row) for row in done)]
    if wanted:
        done += _measure(wanted, options.json)
    rows = [row for row in done if any(_same_run(run, row) for run in _runs(options))]
    give_result(_table(rows))


def _measure(wanted: list[dict], file: Path) -> list[dict]:
    base, rows = default_base(), []
    stage_checkpoint(base)
    stage_dataset(base)
    with HostServer(Host.from_environment(), base) as server, Client(server.url) as client:
        for run in wanted:
            workflow = _workflow(run)
            report = client.run(workflow.nodes).check().outputs[workflow.train]["dadapt_report"][0]
            row = run | {key: report[key] for key in ("heldout_loss_before", "heldout_loss_after", "d_last", "update_ratio")}
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            say(f"batch {run['batch']}, seed {run['seed']}: {row['heldout_loss_before']:.4f} to {row['heldout_loss_after']:.4f}")
            rows.append(row)
    return rows


def _workflow(run: dict) -> DemoWorkflow:
    """The example workflow with the run's settings, and without its pictures."""
    workflow = read_workflow().prepared(run["steps"])
    nodes = workflow.nodes
    nodes[workflow.train]["inputs"] |= {"batch_size": run["batch"], "seed": run["seed"]}
    optimizer = nodes[workflow.train]["inputs"]["optimizer"][0]
    nodes[optimizer]["inputs"] |= run["optimizer"]
    for branch in (workflow.with_lora, workflow.without_lora):
        del nodes[branch.picture]
    return workflow


def _runs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    changes = {name: json.loads(value) for name, value in (change.split("=", 1) for change in options.set)}
    for batch in options.batches:
        for seed in range(options.seeds):
            yield {"batch": batch, "seed": seed, "steps": options.steps, "optimizer": changes}


def _same_run(run: dict, row: dict) -> bool:
    return all(row[key] == value for key, value in run.items())


def _read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _table(rows: list[dict]) -> str:
    lines = ["| batch | seed | held-out loss before | after | d |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row["batch"], row["seed"])):
        before, after = row["heldout_loss_before"], row["heldout_loss_after"]
        lines.append(f"| {row['batch']} | {row['seed']} | {before:.4f} | {after:.4f} | {row['d_last']:.1e} |")
    learned = sum(row["heldout_loss_after"] < row["heldout_loss_before"] for row in rows)
    return "\n".join([*lines, "", f"{learned} of {len(rows)} runs end below the untouched model's loss."])


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py bench safeguard", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="optimizer settings, values as in JSON")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/safeguard.jsonl"))
    return parser.parse_args(arguments)
