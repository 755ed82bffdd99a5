"""How the time of a training step grows with rank, batch, resolution, layers and data. No ComfyUI needed.

    python run.py bench growth [--curves NAME ...] [--rounds 5] [--plot FILE]

`trainer.run.training.Training` trains a network of SD 1.5's architecture with random weights
(benchmarks/plain_unet.py): at full size on a GPU, four times narrower on a CPU. UNet and text encoder train,
without the burn guard's measurements. All points of a curve take turns, with one short run each per round; a
point's time is the median over all its steps but the first two of each run.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from devhost.console import say

from ..trainer.packages import package
from .growth_runs import Bench, Point, Scale
from .optimizer import operations_by_layers
from .results import machine, machine_line

# what is varied ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """Step time against one field of `Point`."""

    varied: str
    values: tuple[int, ...]
    label: str  # of the axis
    proportional: bool = True  # a line to compare with
    logarithmic: bool = False  # the axis

    def points(self, base: Point) -> list[Point]:
        return [replace(base, **{self.varied: value}) for value in self.values]


SCALES = {
    "cpu": Scale(narrower=4, side=128, sides=(128, 192, 256, 384), dtype=torch.float32),
    "cuda": Scale(narrower=1, side=512, sides=(256, 512, 768, 1024), dtype=torch.bfloat16),
}
CURVES = ("rank", "batch", "resolution", "layers", "depth", "pictures")
# Name of a ratio of the last point over the first -> its curve.
RATIOS = {"growth_rank_128_over_4": "rank", "growth_dataset_10000_over_10": "pictures"}


def curves(scale: Scale) -> dict[str, Curve]:
    found = {
        "rank": Curve("rank", (4, 8, 16, 32, 64, 128), "rank"),
        "batch": Curve("batch", (1, 2, 4, 8), "pictures per batch"),
        "resolution": Curve("side", scale.sides, "area of a picture, pixels"),
        "layers": Curve("every", (8, 4, 2, 1), "adapted layers, of 264"),
        "depth": Curve("depth", (1, 2, 4), "layers of a deeper network, all adapted"),
        "pictures": Curve(
            "pictures",
            (10, 100, 1_000, 10_000),
            "pictures in the data set",
            proportional=False,
            logarithmic=True,
        ),
    }
    assert tuple(found) == CURVES
    return found


# measuring --------------------------------------------------------------------------------------------------


def measure_curve(name: str, bench: Bench, rounds: int, steps: int) -> dict[str, Any]:
    """Seconds per step of each point: the median of all steps, and the median of each round."""
    curve = curves(bench.scale)[name]
    points = curve.points(Point(side=bench.scale.side))
    adapters = [bench.adapters(point) for point in points]
    steps_taken: list[list[list[float]]] = [[] for _ in points]  # of each point, of each round
    for turn in range(rounds + 1):
        for taken, point, own in zip(steps_taken, points, adapters, strict=True):
            seconds = bench.step_seconds(point, own, steps if turn else 1)
            if turn:  # the first round warms the process up
                taken.append(seconds)
    return {
        "x": [len(own) for own in adapters] if curve.varied in ("every", "depth") else list(curve.values),
        "seconds": [statistics.median(second for one in taken for second in one) for taken in steps_taken],
        "rounds": [[statistics.median(one) for one in taken] for taken in steps_taken],
    }


# the result -------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """A plain dict: "curves" has {"x", "seconds", "rounds"} of each curve, "ratios" numbers by name."""
    bench = Bench(options.device, SCALES[options.device])
    measured = {}
    for name in options.curves:
        say(f"growth: {name}")
        measured[name] = measure_curve(name, bench, options.rounds, options.steps)
    result = result_of(bench, measured, operations_by_layers())
    plot = options.plot or (options.json and options.json.with_suffix(".png"))
    if plot:
        draw(result, plot)
    return result


def result_of(bench: Bench, measured: Mapping[str, Any], operations: Mapping[str, Any]) -> dict[str, Any]:
    ratios = {ratio: _last_over_first(measured[name]) for ratio, name in RATIOS.items() if name in measured}
    ratios["growth_optimizer_ops_most_over_fewest_layers"] = round(
        operations["ours"][-1] / operations["ours"][0], 3
    )
    scale = bench.scale
    return {
        "machine": machine_line(machine(bench.device.type)),
        "network": {
            "narrower_than_sd15": scale.narrower,
            "side": scale.side,
            "dtype": str(bench.precision),
            "rank": 16,
            "batch": 1,
        },
        "curves": dict(measured),
        "operations": dict(operations),
        "ratios": ratios,
        "medians": {
            f"{name} {x}, s": round(seconds, 4)
            for name, curve in measured.items()
            for x, seconds in zip(curve["x"], curve["seconds"], strict=True)
        },
    }


def _last_over_first(curve: Mapping[str, Any]) -> float:
    """Median over the rounds."""
    pairs = zip(curve["rounds"][-1], curve["rounds"][0], strict=True)
    return round(statistics.median(last / first for last, first in pairs), 3)


def markdown(result: dict[str, Any]) -> str:
    operations = zip(*(result["operations"][key] for key in ("x", "ours", "dadaptation")), strict=True)
    return "\n".join(
        [
            f"{_network_text(result['network'])}.",
            "",
            (
                "| step time against | from | to | times as much | ms per step, first to last"
                " | step time, last over first |"
            ),
            "|---|---|---|---|---|---|",
            *(_row(name, curve) for name, curve in result["curves"].items()),
            "",
            "| adapted layers | tensor operations of an optimizer step | of dadaptation's |",
            "|---|---|---|",
            *(f"| {layers} | {ours} | {theirs:,} |" for layers, ours, theirs in operations),
        ]
    )


def _network_text(network: Mapping[str, Any]) -> str:
    times = network["narrower_than_sd15"]
    size = "SD 1.5 at full size" if times == 1 else f"SD 1.5, {times} times narrower"
    return (
        f"{size}; where not varied rank {network['rank']}, batch {network['batch']}, {network['side']} px,"
        f" {network['dtype']}"
    )


def _row(name: str, curve: Mapping[str, Any]) -> str:
    x = curve["x"]
    more = (x[-1] / x[0]) ** (2 if name == "resolution" else 1)
    unit = " px" if name == "resolution" else ""
    steps = ", ".join(f"{1e3 * seconds:.0f}" for seconds in curve["seconds"])
    return f"| {name} | {x[0]}{unit} | {x[-1]:,}{unit} | {more:g} | {steps} | {_last_over_first(curve):.2f} |"


# the figure -------------------------------------------------------------------------------------------------

SIZE = (16, 7.5)  # inches
DOTS_PER_INCH = 100
OURS = "#1f77b4"
THEIRS = "#d95f02"
GREY = "#999999"


def draw(result: dict[str, Any], path: Path) -> None:
    """Writes a PNG file with one panel per curve."""
    # Without pyplot, whose state belongs to whoever uses it.
    Figure = package("matplotlib.figure", "Drawing curves").Figure
    figure = Figure(figsize=SIZE, dpi=DOTS_PER_INCH, layout="constrained")
    panels: Iterator[Any] = iter(figure.subplots(2, 4).flat)
    known = curves(SCALES["cpu"])  # labels are the same on all devices
    for name, measured in result["curves"].items():
        _draw_curve(next(panels), known[name], measured)
    _draw_operations(next(panels), result["operations"])
    for panel in panels:
        panel.set_axis_off()
    figure.suptitle(
        f"How a training step grows\n{_network_text(result['network'])}; {result['machine']}",
        fontsize="medium",
    )
    figure.savefig(path, format="png")


def _draw_curve(axes: Any, curve: Curve, measured: Mapping[str, Any]) -> None:
    """Draws the medians, with the lowest and the highest of the rounds' medians as error bars."""
    place = (lambda x: x * x) if curve.varied == "side" else (lambda x: x)
    x = [place(value) for value in measured["x"]]
    medians = [1e3 * seconds for seconds in measured["seconds"]]
    below = []
    above = []
    for median, rounds in zip(medians, measured["rounds"], strict=True):
        below.append(max(0.0, median - 1e3 * min(rounds)))
        above.append(max(0.0, 1e3 * max(rounds) - median))
    axes.errorbar(
        x,
        medians,
        yerr=(below, above),
        fmt="o-",
        color=OURS,
        capsize=3,
        label="median; lowest and highest round",
    )
    if curve.logarithmic:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1.05 * x[-1])
    if curve.proportional:
        axes.plot((0, x[-1]), (0, medians[-1]), "--", color=GREY, linewidth=1, label="proportional")
    else:
        axes.axhline(medians[0], linestyle="--", color=GREY, linewidth=1, label="flat")
    if curve.varied == "side":
        axes.set_xticks(x, [f"{side}²" for side in measured["x"]])
    axes.set_ylim(0, 1.2 * max(median + more for median, more in zip(medians, above, strict=True)))
    _finish(axes, curve.label, "ms per step")


def _draw_operations(axes: Any, operations: Mapping[str, Any]) -> None:
    axes.plot(operations["x"], operations["ours"], "o-", color=OURS, label="ours")
    axes.plot(
        operations["x"], operations["dadaptation"], "o-", color=THEIRS, label="dadaptation: proportional"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(1, 10 * max(operations["dadaptation"]))
    _finish(axes, "adapted layers", "tensor operations per optimizer step")


def _finish(axes: Any, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False, fontsize="small")


# the command ------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--curves",
        nargs="+",
        default=CURVES,
        choices=CURVES,
        metavar="NAME",
        help=f"of {', '.join(CURVES)}; default: all",
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each point")
    parser.add_argument("--steps", type=int, default=4, help="counted steps of a point per round")
    parser.add_argument(
        "--plot", type=Path, help="draw the figure to this PNG file; default: beside the JSON"
    )
