"""The curves of a run as one picture: loss and held-out loss above, d·lr of both parts below."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import SettingError
from ..packages import package
from ..parts import label_of
from ..run.events import HeldoutLoss
from ..run.heldout import best_of
from .report import Report

DOTS_PER_INCH = 100
RATE_COLOURS = ("#1f77b4", "#d95f02", "#7570b3", "#66a61e")  # of the parts, in their order
HELDOUT_COLOUR = "#2a9d4a"
AVERAGE_COLOUR = "#333333"
LOSS_COLOUR = "#c8c8c8"
COMPARED_COLOURS = ("#1f77b4", "#2a9d4a", "#d95f02", "#8e5bb5", "#333333", "#b5945b")


def draw_report(report: Report, size: tuple[int, int]):
    """The curves of a run's report as a PIL.Image of `size` (width, height) in pixels."""
    if not isinstance(report, Report):
        raise SettingError(
            f"report: expected the REPORT of a DAdapt Train node, got {type(report).__name__}. Connect that"
            " output."
        )
    return draw_curves([asdict(record) for record in report.records], report.heldout, size)


def draw_curves(records: Sequence[Mapping[str, Any]], heldout: Sequence[HeldoutLoss], size: tuple[int, int]):
    """The curves of a run as a PIL.Image of `size` (width, height) in pixels.

    records: one per step, with "step", "loss" (None: skipped step), "loss_average" and "dlr" (by part;
        None for a part that has stopped), as in steps.jsonl.
    heldout: in the order of their steps; may be empty. The best of the trained LoRAs is marked.
    """
    figure = _figure(size)
    loss_axes, rate_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_losses(loss_axes, records, [measured for measured in heldout if measured.loss is not None])
    _draw_rates(rate_axes, records)
    rate_axes.set_xlabel("step")
    return _as_image(figure)


def draw_comparison(runs: Mapping[str, Sequence[Sequence[tuple[int, float]]]], size: tuple[int, int]):
    """A PIL.Image of the held-out losses of several runs per name: thin lines, and their mean as a thick one.

    runs: for each name a list of runs, each of them (step, loss) pairs at the same steps; step 0 is the
        untouched model.
    """
    figure = _figure(size)
    axes = figure.subplots()
    for colour, (name, seeds) in zip(COMPARED_COLOURS, runs.items(), strict=False):
        for seed in seeds:
            axes.plot(*zip(*seed, strict=True), color=colour, linewidth=0.6, alpha=0.5)
        means = []
        for points in zip(*seeds, strict=True):  # the (step, loss) of every run at one step
            step = points[0][0]
            means.append((step, sum(loss for _, loss in points) / len(points)))
        axes.plot(*zip(*means, strict=True), color=colour, linewidth=2.2, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("held-out loss")
    _finish(axes)
    return _as_image(figure)


def _figure(size: tuple[int, int]):
    """A new figure. It is made without pyplot, whose state belongs to whoever uses pyplot."""
    Figure = package("matplotlib.figure", "Drawing curves").Figure  # slow to import, and most runs never draw
    return Figure(
        figsize=(size[0] / DOTS_PER_INCH, size[1] / DOTS_PER_INCH), dpi=DOTS_PER_INCH, layout="constrained"
    )


def _as_image(figure):
    from PIL import Image

    canvas = package("matplotlib.backends.backend_agg", "Drawing curves").FigureCanvasAgg(figure)
    canvas.draw()
    return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")


def _draw_losses(axes, records: Sequence[Mapping[str, Any]], heldout: Sequence[HeldoutLoss]) -> None:
    """heldout: only those whose loss is a number."""
    steps = _column(records, "step")
    losses = _column(records, "loss")
    averages = _column(records, "loss_average")
    axes.plot(steps, losses, ".", color=LOSS_COLOUR, markersize=4, label="loss of a step")
    axes.plot(steps, averages, color=AVERAGE_COLOUR, label="loss, averaged")
    if heldout:
        axes.plot(
            *zip(*map(_point, heldout), strict=True),
            "o-",
            color=HELDOUT_COLOUR,
            markersize=4,
            label="held-out loss",
        )
        _mark_heldout(axes, heldout)
    axes.set_ylim(0, _upper_limit(losses, [*averages, *(measured.loss for measured in heldout)]))
    axes.set_ylabel("loss")
    _finish(axes)


def _mark_heldout(axes, heldout: Sequence[HeldoutLoss]) -> None:
    """Writes the numbers of the untouched model, of the best step and of the last."""
    _write_value(axes, heldout[0], "left")
    best = best_of(heldout)
    if best is None:
        return
    if best is not heldout[-1]:
        _write_value(axes, heldout[-1], "right")
    axes.axvline(best.step, color=HELDOUT_COLOUR, linestyle=":", linewidth=1)
    axes.plot(
        *_point(best),
        "*",
        color=HELDOUT_COLOUR,
        markersize=13,
        label=f"best: {best.loss:.4f} at step {best.step}",
    )


def _write_value(axes, measured: HeldoutLoss, alignment: str) -> None:
    axes.annotate(
        f"{measured.loss:.4f}",
        _point(measured),
        xytext=(0, 9),
        textcoords="offset points",
        horizontalalignment=alignment,
        color=HELDOUT_COLOUR,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


def _point(measured: HeldoutLoss) -> tuple[int, float]:
    return measured.step, measured.loss


def _draw_rates(axes, records: Sequence[Mapping[str, Any]]) -> None:
    steps = _column(records, "step")
    for place, part in enumerate(records[-1]["dlr"] if records else ()):
        colour = RATE_COLOURS[place % len(RATE_COLOURS)]
        rates = [_or_gap(record["dlr"][part]) for record in records]
        axes.plot(steps, rates, color=colour, label=f"d·lr, {label_of(part)}")
    axes.set_yscale("log")
    axes.set_ylabel("d·lr")
    _finish(axes)


def _finish(axes) -> None:
    axes.grid(alpha=0.3, which="major")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", frameon=False, fontsize="small")


def _column(records: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    """The values of one key, with gaps for None."""
    return [_or_gap(record[key]) for record in records]


def _or_gap(value: float | None) -> float:
    """nan for None: matplotlib leaves a gap there."""
    return math.nan if value is None else value


def _upper_limit(losses: Iterable[float], always_shown: Iterable[float]) -> float:
    """The top of the axis, which leaves out the highest twentieth of the single steps' losses.

    The high losses of rare timesteps would flatten everything else.
    """
    ordered = sorted(loss for loss in losses if loss == loss)  # nan is not itself
    shown = [loss for loss in always_shown if loss == loss]
    shown += ordered[len(ordered) * 19 // 20 - 1 :][:1]
    return 1.1 * max(shown, default=1.0)
