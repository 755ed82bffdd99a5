"""The time of a training step, ours and every other trainer's, which take turns step by step.

They train on the same model and pictures, with the same rank, precision and batch. A step's time is that of
the whole loop: ours from one StepRecord to the next, that of ComfyUI's node from one tick of its progress bar
to the next. Ratios are medians of paired ratios, ours over theirs; a ratio's plain name is the worst of all
models and batch sizes.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
import torch

from devhost.console import say
from devhost.errors import HostError

from ..trainer.precision import choose_precision
from . import trainers
from .floors import bandwidth, matmul_rate
from .order import DEMO, SD15
from .pairs import Pair
from .turns import Message, in_turns, one_after_the_other

WARM_UP = 1  # steps that are not counted, after each trainer's first step, which never is
ROUNDS = {DEMO: 20, SD15: 3}
BATCHES_OUTSIDE = (1, 2)  # at which the share outside of the network is measured
STEPS_OUTSIDE = 30  # that are counted
# The first of those steps. Before it, d is so small that squares of gradients are denormal numbers, which a
# CPU computes slowly.
OUTSIDE_FROM = 100
NETWORK = "network"


def add_options(parser: argparse.ArgumentParser) -> None:
    trainers.add_options(parser)
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"counted steps of each trainer; default: {ROUNDS}"
    )
    parser.add_argument(
        "--outside-from",
        type=int,
        default=OUTSIDE_FROM,
        metavar="STEP",
        help=(
            "first of the steps whose share outside of the network is counted, from 3 up; default:"
            f" {OUTSIDE_FROM}"
        ),
    )
    parser.add_argument(
        "--outside-steps",
        type=int,
        default=STEPS_OUTSIDE,
        metavar="N",
        help=f"so many of them; default: {STEPS_OUTSIDE}",
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    pairs, left_out = trainers.chosen_pairs(options)
    with trainers.staged(options.device) as started:
        floors = _Floors(started)
        rows = [
            _compared(started, pair, model, batch, options, floors)
            for pair, model, batch in cases(pairs, options)
        ]
        watched = () if options.only or DEMO not in options.models else BATCHES_OUTSIDE
        outside = [_outside(started, batch, options) for batch in watched]
    return {
        "rows": rows,
        "outside": outside,
        "machine_reaches": floors.reached,
        "left_out": left_out,
        "ratios": _ratios(rows, outside),
        "medians": dict(_medians(rows, outside)),
    }


def cases(pairs: Sequence[Pair], options: argparse.Namespace) -> Iterator[tuple[Pair, str, int]]:
    for model in options.models:
        for pair in pairs:
            for batch in options.batches if model in pair.models else ():
                yield pair, model, batch


# one comparison ---------------------------------------------------------------------------------------------


def _compared(
    started: trainers.Trainers,
    pair: Pair,
    model: str,
    batch: int,
    options: argparse.Namespace,
    floors: "_Floors",
) -> dict[str, Any]:
    trainers.tell(pair, model, batch)
    rounds = options.rounds or ROUNDS[model]
    together = pair.fits_twice(model, batch, _memory(started.device))
    take = in_turns if together else one_after_the_other
    taken = take(
        [partial(kind, pair, model, batch) for kind in (started.ours, started.theirs)], rounds, WARM_UP
    )
    mine, others = (
        [message["seconds"] for message in messages] for messages in zip(*_finite(*taken), strict=True)
    )
    return {
        "name": pair.name,
        "title": pair.title,
        "model": model,
        "batch": batch,
        "in_turns": together,
        "ours": spread(mine) | {"floor": floors.of_ours(pair, model, batch)},
        "theirs": spread(others) | {"floor": floors.of_theirs(pair, model, batch)},
        "ratio": paired_ratio(mine, others),
    }


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ours over theirs, each step over the one that was taken beside it."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def _memory(device: str) -> int:
    """The memory of the whole machine or GPU in bytes."""
    return torch.cuda.mem_get_info()[1] if device == "cuda" else psutil.virtual_memory().total


def _finite(*messages_of: Sequence[Message]) -> list[tuple[Message, ...]]:
    """The rounds in which every trainer's step was finite.

    In other rounds, which happen now and then in fp16, an optimizer did nothing.
    """
    rounds = list(zip(*messages_of, strict=True))
    finite = [
        messages for messages in rounds if all(message.get("loss", 0) is not None for message in messages)
    ]
    if len(finite) < len(rounds) / 2:
        raise HostError(
            f"In {len(rounds) - len(finite)} of {len(rounds)} rounds a step was not finite: their time is"
            " worth nothing."
        )
    return finite


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and mean."""
    low, median, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    )
    return {"median": median, "low": low, "high": high, "mean": statistics.mean(values)}


# floors -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What a step has to compute and to move."""

    flops: int
    weight_bytes: int  # read or written, all passes over the weights together

    def seconds(self, rate: float, bandwidth: float) -> float:
        """The floor: whichever takes longer, at FLOP/s and bytes/s that a machine reaches."""
        return max(self.flops / rate, self.weight_bytes / bandwidth)


class _Floors:
    """The floors of steps on this machine; rates are measured and FLOPs counted when first needed."""

    def __init__(self, started: trainers.Trainers) -> None:
        self.started = started
        self.device = started.device
        self.reached: dict[str, float] = {}
        self._counts: dict[str, dict] = {}

    def of_ours(self, pair: Pair, model: str, batch: int) -> float:
        """Seconds of our step, which reads each weight in the forward pass and in the backward pass."""
        counts = self._counted(model)
        precision = self._precision(pair.precision)
        weights = counts["unet_weights"] + (counts["text_weights"] if "text encoder" in pair.adapts else 0)
        return self._seconds(Work(batch * counts[pair.adapts], 2 * _size(precision) * weights), precision)

    def of_theirs(self, pair: Pair, model: str, batch: int) -> float:
        """Seconds of the other trainer's step; the same as ours for one that works through hooks too.

        ComfyUI's node reads W, writes and reads W + up @ down, reads it again in the backward pass, and
        writes and reads its gradient.
        """
        if pair.peer.module != "run_host_node" or pair.theirs.get("bypass_mode"):
            return self.of_ours(pair, model, batch)
        counts = self._counted(model)
        precision = pair.theirs.get("training_dtype", "bf16")
        work = Work(batch * counts["merged"], 6 * _size(precision) * counts["unet_weights"])
        return self._seconds(work, precision)

    def _seconds(self, work: Work, precision: str) -> float:
        return work.seconds(self._reached(f"{precision} FLOP/s", precision), self._reached("bytes/s", None))

    def _reached(self, name: str, precision: str | None) -> float:
        if name not in self.reached:
            self.reached[name] = matmul_rate(precision, self.device) if precision else bandwidth(self.device)
            if self.device == "cuda":
                torch.cuda.empty_cache()  # the trainers that are measured next need the memory
        return self.reached[name]

    def _counted(self, model: str) -> dict:
        if model not in self._counts:
            self._counts[model] = self.started.counts(model)
        return self._counts[model]

    def _precision(self, choice: str) -> str:
        # what ComfyUI computes in when it makes pictures with an fp16 checkpoint
        inference = torch.float16 if self.device == "cuda" else torch.float32
        return str(choose_precision(choice, inference, torch.device(self.device)))


def _size(precision: str) -> int:
    return 4 if precision == "fp32" else 2


# outside of the network -------------------------------------------------------------------------------------


def _outside(started: trainers.Trainers, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """The share of our step outside of the network's forward and backward pass, at the default settings."""
    say(f"outside of the network: demo, batch {batch}")
    # beside the step that a trainer does before its first turn
    uncounted = max(WARM_UP, options.outside_from - 2)
    ours = partial(started.ours_by_default, DEMO, batch, watch="parts")
    taken = in_turns([ours], options.outside_steps, uncounted)
    messages = [message for (message,) in _finite(*taken)]
    seconds = [message["seconds"] for message in messages]
    names = sorted({name for message in messages for name in message["parts"]} - {NETWORK})
    shares = {name: [_share(message, name) for message in messages] for name in names}
    outside = [1 - _share(message, NETWORK) for message in messages]
    # what no part was measured for
    shares["data and objective"] = [
        whole - sum(parts) for whole, *parts in zip(outside, *shares.values(), strict=True)
    ]
    return {
        "batch": batch,
        "share": spread(outside),
        "parts": {
            name: {"median": statistics.median(values), "mean": statistics.mean(values)}
            for name, values in shares.items()
        },
        "step": spread(seconds),
    }


def _share(message: Message, part: str) -> float:
    """The share of a step's time that a part took."""
    return message["parts"].get(part, 0) / message["seconds"]


# figures and tables -----------------------------------------------------------------------------------------


def _ratios(rows: Sequence[Mapping[str, Any]], outside: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    ratios = with_worst(
        {f"step_vs_{row['name']}/{row['model']}/b{row['batch']}": row["ratio"] for row in rows}
    )
    return ratios | with_worst(
        {f"outside_network_share/demo/b{one['batch']}": one["share"]["median"] for one in outside}
    )


def with_worst(ratios: Mapping[str, float]) -> dict[str, float]:
    """All ratios `NAME/...`, and before them the largest of them as NAME."""
    names = list(dict.fromkeys(name.split("/")[0] for name in ratios))
    worst = {
        name: max(value for case, value in ratios.items() if case.startswith(f"{name}/")) for name in names
    }
    return {name: round(value, 4) for name, value in (worst | dict(ratios)).items()}


def _medians(
    rows: Sequence[Mapping[str, Any]], outside: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, float]]:
    for row in rows:
        for who in ("ours", "theirs"):
            yield f"{row['name']}/{row['model']}/b{row['batch']} {who}, s", round(row[who]["median"], 4)
    for one in outside:
        yield f"default/demo/b{one['batch']} ours alone, s", round(one["step"]["median"], 4)


def markdown(result: Mapping[str, Any]) -> str:
    lines = [
        (
            "| compared with | model | batch | ours, s | theirs, s | ours over theirs | our floor, s | over"
            " it | their floor, s | over it |"
        ),
        f"|{10 * '---|'}",
        *map(_row, result["rows"]),
        "",
        "Medians, quartiles in brackets. Floors: FLOPs and bytes over what this machine reaches: "
        + ", ".join(f"{value / 1e9:.0f} G {name}" for name, value in result["machine_reaches"].items())
        + ". They hold no recomputation, so that a checkpointed step cannot come near.",
        *(f"\n{line}" for line in result["left_out"]),
    ]
    if result["outside"]:
        lines += ["", "The mean has what happens only now and then: the burn guard's measurements.", ""]
        lines += [
            "| demo, by default | step, s | outside of the network, median | mean | of which |",
            "|---|---|---|---|---|",
        ]
        lines += map(_outside_row, result["outside"])
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> str:
    title = row["title"]
    if not row["in_turns"]:
        title += "; one trainer after the other, two do not fit in memory"
    cells = [f"{row['name']}: {title}", row["model"], row["batch"]]
    cells += map(_with_quartiles, (row["ours"], row["theirs"]))
    cells.append(f"**{row['ratio']:.2f}**")
    for one in (row["ours"], row["theirs"]):
        cells += [f"{one['floor']:.3f}", f"{one['median'] / one['floor']:.1f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def _with_quartiles(one: Mapping[str, float]) -> str:
    return f"{one['median']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _outside_row(one: Mapping[str, Any]) -> str:
    parts = ", ".join(
        f"{name} {share['median']:.1%} (mean {share['mean']:.1%})" for name, share in one["parts"].items()
    )
    return (
        f"| batch {one['batch']} | {one['step']['median']:.3f} | {one['share']['median']:.1%} |"
        f" {one['share']['mean']:.1%} | {parts} |"
    )
