"""The peak of memory that training takes above the loaded model, for us and for every other trainer.

Each trains in a fresh process. The peak is torch's allocations on a GPU, resident memory on a CPU, less what
there is after UNet, text encoder and VAE were loaded. Encoding the pictures is counted. Ratios are ours over
theirs; a ratio's plain name is the worst of all models and batch sizes.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from . import trainers
from .pairs import Pair
from .train import cases, with_worst
from .turns import Trainer

STEPS = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    trainers.add_options(parser)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    pairs, left_out = trainers.chosen_pairs(options)
    # Not sd-scripts, which loads another VAE and text encoder.
    measurable = [pair for pair in pairs if pair.peer.module == "run_host_node"]
    with trainers.staged(options.device) as started:
        rows = [_compared(started, pair, model, batch) for pair, model, batch in cases(measurable, options)]
    return {
        "rows": rows,
        "left_out": left_out,
        "ratios": with_worst({f"memory_vs_{_case(row)}": row["ours"] / row["theirs"] for row in rows}),
        "medians": {
            f"{_case(row)} {who}, MB": round(row[who] / 1e6) for row in rows for who in ("ours", "theirs")
        },
    }


def _compared(started: trainers.Trainers, pair: Pair, model: str, batch: int) -> dict[str, Any]:
    trainers.tell(pair, model, batch)
    ours = _peak(started.ours(pair, model, batch, watch="memory"))
    theirs = _peak(started.theirs(pair, model, batch, watch="memory"))
    return {
        "name": pair.name,
        "title": pair.title,
        "model": model,
        "batch": batch,
        "ours": ours,
        "theirs": theirs,
    }


def _peak(trainer: Trainer) -> int:
    """The peak in bytes after some steps."""
    with trainer:
        for _ in range(STEPS - 1):  # the first one is done
            trainer.turn()
        return trainer.stop()["bytes"]


def _case(row: Mapping[str, Any]) -> str:
    return f"{row['name']}/{row['model']}/b{row['batch']}"


def markdown(result: Mapping[str, Any]) -> str:
    lines = [
        "| compared with | model | batch | ours, MB | theirs, MB | ours over theirs |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']}: {row['title']} | {row['model']} | {row['batch']} | {row['ours'] / 1e6:.0f} |"
        f" {row['theirs'] / 1e6:.0f} | **{row['ours'] / row['theirs']:.2f}** |"
        for row in result["rows"]
    ]
    return "\n".join([*lines, *(f"\n{line}" for line in result["left_out"])])
