"""Which preset learns most and which overtrains, compared with AdamW at its best rate.

    python run.py bench presets [--seeds 3] [--servers 2] [--results FILE] [--only NAME ...]
                                [--set NAME=VALUE ...]

It trains the demo's model on 15 of the demo's 60 pictures at batch 2: few enough that every preset has the
time to overtrain.

1. AdamW at 6 rates on seed 0, long enough to see it overtrain. This gives its best rate, and the step at
   which it is best.
2. Every preset, and AdamW at that rate, on all seeds, for 3 times that many steps.

Held-out loss is measured every 20 steps over 32 fixed noises and timesteps. Each run is a line in the results
file; after an interruption it goes on where it stopped. Two ComfyUI servers share the work, with one thread
each; on two CPU cores it takes about an hour.
"""

import argparse
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from statistics import mean
from typing import Any

from demo.stage import DATASET, stage_checkpoint, stage_dataset
from demo.workflow import DemoWorkflow
from devhost.client import Client
from devhost.console import give_result, say
from devhost.layout import Host, default_base
from devhost.server import HostServer

from ..trainer.record.curves import draw_comparison
from ..trainer.settings.optimizer import OptimizerConfig
from .demo_runs import append_row, parsed_settings, prepared_workflow, read_rows, reported, same_run

RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3)
SEARCH_STEPS = 300
COMPARED = ("guide 2023", "steady", "Prodigy", "Prodigy + schedule-free", "AdamW")
EVERY = 20  # steps between two measurements
BATCH = 2
PICTURES_TAKEN = 4  # every fourth
FOLDER = "dadapt_few"  # below input/
SAME = ("recipe", "steps", "seed", "batch", "every", "pictures_taken")  # what makes two runs the same one
REPORTED = (
    "heldout",
    "d_last",
    "update_ratio",
    "update_share",
    "burns",
    "seconds_training",
    "peak_memory_mb",
)


def main(arguments: list[str]) -> None:
    options = _parse(arguments)
    _complete(list(_search()), options)
    rate, best_step = _best_adamw(read_rows(options.results))
    steps = 3 * best_step
    say(f"AdamW is best at {rate:g}, at step {best_step}: every preset runs {steps} steps.")
    chosen = {*options.only, "AdamW"} if options.only else {*COMPARED, *(["set"] if options.set else [])}
    runs = [run for run in _comparison(rate, steps, options) if run["name"] in chosen]
    _complete(runs, options)
    rows = read_rows(options.results)
    search, compared = (_rows_of(rows, wanted) for wanted in (list(_search()), runs))
    _draw(compared).save(options.results.with_suffix(".png"))
    give_result(_table(search, compared))


# what is run ------------------------------------------------------------------------------------------------


def _search() -> Iterator[dict[str, Any]]:
    for rate in RATES:
        yield _run("AdamW", {"preset": "AdamW", "adamw_rate": rate}, SEARCH_STEPS, seed=0)


def _comparison(rate: float, steps: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for seed in range(options.seeds):
        for preset in COMPARED:
            settings = {"preset": preset} | ({"adamw_rate": rate} if preset == "AdamW" else {})
            yield _run(preset, settings, steps, seed)
        if options.set:
            yield _run("set", parsed_settings(options.set), steps, seed)


def _run(name: str, optimizer: dict[str, Any], steps: int, seed: int) -> dict[str, Any]:
    """One run: "optimizer" is what is set at the node, "recipe" all settings that follow from it.

    With the recipe in it, a run of a preset that has been changed since is another run.
    """
    recipe = asdict(OptimizerConfig(**optimizer).resolved())
    run = {"name": name, "optimizer": optimizer, "recipe": recipe, "steps": steps, "seed": seed}
    return run | {"batch": BATCH, "every": EVERY, "pictures_taken": PICTURES_TAKEN}


def _best_adamw(rows: list[dict]) -> tuple[float, int]:
    """The rate that reaches the lowest held-out loss, and the step at which it does."""
    best = min(_rows_of(rows, list(_search())), key=lambda row: _best(row)[1])
    return best["optimizer"]["adamw_rate"], _best(best)[0]


# running ----------------------------------------------------------------------------------------------------


def _complete(runs: list[dict], options: argparse.Namespace) -> None:
    """Does the runs that the results file lacks, on several servers at once."""
    done = read_rows(options.results)
    waiting: Queue[dict] = Queue()
    for run in runs:
        if not any(same_run(run, row, SAME) for row in done):
            waiting.put(run)
    if waiting.empty():
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.servers))
    failures: list[BaseException] = []
    lock = threading.Lock()
    arguments = (waiting, options.results, lock, failures)
    workers = [
        threading.Thread(target=_work, args=(number, *arguments))
        for number in range(min(options.servers, waiting.qsize()))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


def _work(
    number: int, waiting: Queue, results: Path, lock: threading.Lock, failures: list[BaseException]
) -> None:
    """One server's share of the runs."""
    base = default_base().with_name(f"presets-{number}")
    try:
        with lock:
            stage_checkpoint(base)
            stage_dataset(base)
            _stage_few(base)
        with HostServer(Host.from_environment(), base) as server, Client(server.url) as client:
            while not failures:
                run = waiting.get_nowait()
                row = run | reported(client, _workflow(run), REPORTED)
                with lock:
                    append_row(results, row)
                step, loss = _best(row)
                say(
                    f"{run['optimizer']}, seed {run['seed']}: best {loss:.4f} at step {step},"
                    f" {row['heldout'][-1][1]:.4f} at the end"
                )
    except Empty:
        return
    except BaseException as error:  # told to whoever waits for the threads
        failures.append(error)


def _stage_few(base: Path) -> None:
    """Puts the demo's data set with every fourth training picture below `base`."""
    target = base / "input" / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    (target / "4_fluent3d").mkdir(parents=True)
    for picture in sorted((DATASET / "train" / "4_fluent3d").glob("*.png"))[::PICTURES_TAKEN]:
        for file in (picture, picture.with_suffix(".txt")):
            shutil.copyfile(file, target / "4_fluent3d" / file.name)


def _workflow(run: dict) -> DemoWorkflow:
    train = {"batch_size": BATCH, "seed": run["seed"], "measure_every": EVERY}
    workflow = prepared_workflow(run["steps"], train, run["optimizer"])
    workflow.nodes[workflow.dataset]["inputs"]["folder"] = FOLDER
    return workflow


# results ----------------------------------------------------------------------------------------------------


def _rows_of(rows: list[dict], runs: list[dict]) -> list[dict]:
    """The rows of these runs in the runs' order, but with those of one name together."""
    names = list(dict.fromkeys(run["name"] for run in runs))
    found = [row for run in runs for row in rows if same_run(run, row, SAME)]
    return sorted(found, key=lambda row: names.index(row["name"]))


def _best(row: dict) -> tuple[int, float]:
    """Step and held-out loss of the best LoRA of a run; the untouched model does not count."""
    return min((tuple(measured) for measured in row["heldout"][1:]), key=lambda measured: measured[1])


def _table(search: list[dict], compared: list[dict]) -> str:
    return "\n".join([*_search_lines(search), "", *_comparison_lines(compared)])


def _search_lines(search: list[dict]) -> list[str]:
    untouched = search[0]["heldout"][0][1]
    lines = [f"Untouched model: {untouched:.4f}.", ""]
    lines += ["| AdamW's rate, seed 0 | best held-out loss | at step | at the end |", "|---|---|---|---|"]
    for row in sorted(search, key=lambda row: row["optimizer"]["adamw_rate"]):
        step, loss = _best(row)
        lines.append(
            f"| {row['optimizer']['adamw_rate']:g} | {loss:.4f} | {step} | {row['heldout'][-1][1]:.4f} |"
        )
    return lines


def _comparison_lines(compared: list[dict]) -> list[str]:
    columns = (
        "preset",
        "best",
        "at step",
        "at the end",
        "the end over the best",
        "best over AdamW's",
        "d at the end",
        "burns",
    )
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    adamw = mean(_best(row)[1] for row in compared if row["name"] == "AdamW")
    for name in dict.fromkeys(row["name"] for row in compared):
        lines.append(_line(name, [row for row in compared if row["name"] == name], adamw))
    worst = max(row["heldout"][-1][1] for row in compared)
    seeds = len({row["seed"] for row in compared})
    lines += ["", f"Means over {seeds} seeds. The highest loss that any run ends at: {worst:.4f}."]
    return lines


def _line(name: str, rows: list[dict], adamw: float) -> str:
    best = mean(_best(row)[1] for row in rows)
    end = mean(row["heldout"][-1][1] for row in rows)
    overtrained = mean(row["heldout"][-1][1] / _best(row)[1] for row in rows)
    steps = ", ".join(str(_best(row)[0]) for row in rows)
    d = ", ".join("-" if row["d_last"] is None else f"{row['d_last']:.1e}" for row in rows)
    burns = sum(len(row["burns"]) for row in rows)
    return (
        f"| {name} | {best:.4f} | {steps} | {end:.4f} | {overtrained - 1:+.1%} | {best / adamw - 1:+.1%} |"
        f" {d} | {burns} |"
    )


def _draw(compared: list[dict]):
    """A picture of held-out loss against the step: a thin line per seed, and the mean of each preset."""
    names = dict.fromkeys(row["name"] for row in compared)
    return draw_comparison(
        {name: [row["heldout"] for row in compared if row["name"] == name] for name in names},
        size=(1000, 600),
    )


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py bench presets", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--servers",
        type=int,
        default=2,
        help="ComfyUI servers that share the work; the CPU's threads are shared too",
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/presets.jsonl"))
    parser.add_argument("--only", nargs="*", metavar="PRESET", help="only these presets, and AdamW")
    what = "one more recipe, called set: optimizer settings, values as in JSON"
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help=what)
    return parser.parse_args(arguments)
