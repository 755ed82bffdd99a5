"""Whether the default recipe learns on every seed: the demo's workflow at batch 1, 2 and 4 on five seeds.

    python run.py bench safeguard [--seeds 5] [--batches 1 2 4] [--steps 200] [--set growth_rate=1.1 ...]
                                  [--json FILE]

--set changes settings of the optimizer. Each run is a line in the JSON file; after an interruption it goes on
where it stopped. On two CPU cores all 15 runs take about 50 minutes.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.stage import stage_checkpoint, stage_dataset
from devhost.client import Client
from devhost.console import give_result, say
from devhost.layout import Host, default_base
from devhost.server import HostServer

from .demo_runs import append_row, parsed_settings, prepared_workflow, read_rows, reported, same_run

SAME = ("batch", "seed", "steps", "optimizer")  # what makes two runs the same one
REPORTED = ("heldout_loss_before", "heldout_loss_after", "d_last", "update_ratio")


def main(arguments: list[str]) -> None:
    options = _parse(arguments)
    done = read_rows(options.json)
    wanted = [run for run in _runs(options) if not any(same_run(run, row, SAME) for row in done)]
    if wanted:
        done += _measure(wanted, options.json)
    rows = [row for row in done if any(same_run(run, row, SAME) for run in _runs(options))]
    give_result(_table(rows))


def _measure(wanted: list[dict], file: Path) -> list[dict]:
    base = default_base()
    rows = []
    stage_checkpoint(base)
    stage_dataset(base)
    with HostServer(Host.from_environment(), base) as server, Client(server.url) as client:
        for run in wanted:
            workflow = prepared_workflow(
                run["steps"], {"batch_size": run["batch"], "seed": run["seed"]}, run["optimizer"]
            )
            row = run | reported(client, workflow, REPORTED)
            append_row(file, row)
            say(
                f"batch {run['batch']}, seed {run['seed']}: {row['heldout_loss_before']:.4f} to"
                f" {row['heldout_loss_after']:.4f}"
            )
            rows.append(row)
    return rows


def _runs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    changes = parsed_settings(options.set)
    for batch in options.batches:
        for seed in range(options.seeds):
            yield {"batch": batch, "seed": seed, "steps": options.steps, "optimizer": changes}


def _table(rows: list[dict]) -> str:
    lines = ["| batch | seed | held-out loss before | after | d |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row["batch"], row["seed"])):
        losses = f"{row['heldout_loss_before']:.4f} | {row['heldout_loss_after']:.4f}"
        lines.append(f"| {row['batch']} | {row['seed']} | {losses} | {row['d_last']:.1e} |")
    learned = sum(row["heldout_loss_after"] < row["heldout_loss_before"] for row in rows)
    return "\n".join([*lines, "", f"{learned} of {len(rows)} runs end below the untouched model's loss."])


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py bench safeguard", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="optimizer settings, values as in JSON"
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/safeguard.jsonl"))
    return parser.parse_args(arguments)
