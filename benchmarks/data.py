"""How long it takes to read, order and batch the data. It needs no ComfyUI and no network.

    python run.py bench data [--pictures 10 100 1000] [--side 512] [--rounds 5]

The pictures are synthetic PNG files in a temporary folder, in the system's file cache. What is measured is
`trainer/data`'s reading and order, and what the training loop makes of a batch: stacked latents, noise, noise
levels.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..trainer.data import dataset as dataset_module
from ..trainer.data import fingerprint as fingerprint_module
from ..trainer.data.dataset import read_dataset
from ..trainer.data.fingerprint import fingerprint
from ..trainer.data.latents import LatentPicture
from ..trainer.data.order import Batch, Order
from ..trainer.data.pictures import read_picture, read_thumbnail
from ..trainer.data.problems import report_of
from ..trainer.seeds import CPU, noise_of_step, uniform_of_step
from ..trainer.settings.dataset import DatasetConfig

LATENT = (4, 64, 64)  # of 512 px
DIFFERENT = 12  # pictures that are drawn; the rest are copies of their files
SHAPES = ((1.0, 1.0), (1.25, 0.8), (0.8, 1.25))  # width and height, as shares of the side
ORDERED = (10, 100, 1_000, 10_000)  # pictures
BATCHES = (1, 4, 8)


def _seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _median(step: Callable[[], Any], rounds: int) -> float:
    """The median of some rounds in seconds, after one that is not counted."""
    step()
    return statistics.median(_seconds(step) for _ in range(rounds))


# reading ----------------------------------------------------------------------------------------------------


def write_pictures(folder: Path, count: int, side: int) -> None:
    """Writes PNG files with captions: gradients with noise, which compress about as photographs do."""
    random = np.random.default_rng(0)
    for place in range(count):
        path = folder / f"{place:06d}.png"
        if place < DIFFERENT:
            Image.fromarray(_pixels(random, side, *SHAPES[place % len(SHAPES)])).save(path, compress_level=6)
        else:
            shutil.copyfile(folder / f"{place % DIFFERENT:06d}.png", path)
        path.with_suffix(".txt").write_text(f"picture {place} of a style\n", encoding="utf-8")


def _pixels(random: np.random.Generator, side: int, wide: float, high: float) -> np.ndarray:
    """The pixels of one picture, [height, width, 3] in uint8."""
    x, y = np.meshgrid(np.linspace(0, 200, int(side * wide)), np.linspace(0, 200, int(side * high)))
    smooth = np.stack((x, y, (x + y) / 2), axis=-1)
    return (smooth + random.normal(20, 4, smooth.shape)).clip(0, 255).astype(np.uint8)


def reading(counts: Sequence[int], side: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds per picture, for each number of pictures."""
    return [_reading(count, side, rounds) for count in counts]


def _reading(count: int, side: int, rounds: int) -> dict[str, Any]:
    config = DatasetConfig(resolution=side)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, count, side)
        read = read_dataset(folder, config)
        seconds = {
            "read": _median(lambda: read_dataset(folder, config), rounds),
            "bucket and report": _median(lambda: report_of(read), rounds),
            "fingerprint, first": _median(lambda: _fingerprint_of_unknown(folder, config), rounds),
            "fingerprint, again": _median(lambda: fingerprint(folder, config), rounds),
        }
    return {"pictures": count, **{what: 1e3 * taken / count for what, taken in seconds.items()}}


def _fingerprint_of_unknown(folder: Path, config: DatasetConfig) -> None:
    fingerprint_module._digests.clear()
    fingerprint(folder, config)


def one_picture(side: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each part of reading one picture, in one thread."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, 1, side)
        file = folder / "000000.png"
        steps: dict[str, Callable[[], Any]] = {
            "decoded": lambda: _decoded(file),
            "decoded, upright, RGB": lambda: read_picture(file),
            "decoded, upright, RGB, thumbnail": lambda: read_thumbnail(file, dataset_module.THUMBNAIL_SIDE),
        }
        return {what: 1e3 * _median(step, 5 * rounds) for what, step in steps.items()}


def _decoded(file: Path) -> None:
    with Image.open(file) as image:
        image.load()


# order and batches ------------------------------------------------------------------------------------------


def ordering(counts: Iterable[int], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds that an epoch's batches take, for each number of pictures.

    Three of them: the first batch, which draws the order; each other batch; and all batches, per picture.
    """
    return [_ordering(latents(count), rounds) for count in counts]


def latents(count: int, sizes: int = 3) -> list[LatentPicture]:
    """Latents of several sizes. All of one size share their memory: the order does not read them."""
    shared = [torch.zeros(LATENT[0], LATENT[1] + 8 * size, LATENT[2]) for size in range(sizes)]
    return [LatentPicture(shared[place % sizes], f"picture {place}") for place in range(count)]


def _ordering(pictures: Sequence[LatentPicture], rounds: int) -> dict[str, Any]:
    count = len(pictures)
    first: list[float] = []
    others: list[float] = []
    for seed in range(rounds):
        order = Order(pictures, batch_size=1, seed=seed)
        first.append(_seconds(partial(order.batch, 0)))
        others.append(_seconds(lambda order=order: [order.batch(step) for step in range(1, count)]))
    first_ms = 1e3 * statistics.median(first)
    others_ms = 1e3 * statistics.median(others)
    return {
        "pictures": count,
        "first batch": first_ms,
        "each other": others_ms / max(1, count - 1),
        "a picture": (first_ms + others_ms) / count,
    }


def batching(sizes: Iterable[int], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds that the CPU needs for a batch before the network runs, as in the training loop."""
    return [
        {"batch": size, **_batching(Batch(tuple(latents(size, sizes=1)), epoch=1), rounds)} for size in sizes
    ]


def _batching(batch: Batch, rounds: int) -> dict[str, float]:
    shape = batch.latents.shape
    steps: dict[str, Callable[[], Any]] = {
        "stack": lambda: batch.latents,
        "noise": lambda: noise_of_step(0, 0, shape, CPU),
        "sigmas": lambda: uniform_of_step(0, 0, shape[0]),
        "captions": lambda: batch.captions,
    }
    return {what: 1e3 * _median(step, 20 * rounds) for what, step in steps.items()}


# the result -------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """{"side", "reading": [rows], "one picture": {...}, "ordering": [rows], "batching": [rows], "ratios"}"""
    read = reading(options.pictures, options.side, options.rounds)
    ordered = ordering(ORDERED, 3 * options.rounds)
    batches = batching(BATCHES, options.rounds)
    return {
        "side": options.side,
        "reading": read,
        "one picture": one_picture(options.side, options.rounds),
        "ordering": ordered,
        "batching": batches,
        "medians": _medians("pictures", [*read, *ordered]) | _medians("batch", batches),
        "ratios": {
            "data_read_a_picture_most_over_fewest": round(read[-1]["read"] / read[0]["read"], 3),
            "data_fingerprint_again_over_first": round(
                read[-1]["fingerprint, again"] / read[-1]["fingerprint, first"], 3
            ),
            "data_order_a_picture_10000_over_10": round(
                ordered[-1]["a picture"] / ordered[0]["a picture"], 3
            ),
        },
    }


def _medians(counted: str, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {
        f"{counted} {row[counted]}: {name}, ms": value
        for row in rows
        for name, value in row.items()
        if name != counted
    }


def markdown(result: dict[str, Any]) -> str:
    return "\n".join(
        [
            (
                f"Milliseconds, medians; PNG files of {result['side']} px, latents"
                f" {' x '.join(map(str, LATENT))}."
            ),
            "",
            "Reading, per picture:",
            "",
            *_table(result["reading"]),
            "",
            "One picture, one thread:",
            "",
            *_table([result["one picture"]]),
            "",
            "The order of an epoch, batch 1:",
            "",
            *_table(result["ordering"], digits=4),
            "",
            "A batch, before the network runs:",
            "",
            *_table(result["batching"], digits=4),
        ]
    )


def _table(rows: Sequence[dict[str, Any]], digits: int = 2) -> list[str]:
    names = list(rows[0])
    cells = [
        [f"{row[name]:,}" if isinstance(row[name], int) else f"{row[name]:.{digits}f}" for name in names]
        for row in rows
    ]
    return [f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *cells)]


# the command ------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pictures", nargs="+", type=int, default=[10, 100, 1_000], metavar="N", help="files to read"
    )
    parser.add_argument("--side", type=int, default=512, help="of a picture, pixels")
    parser.add_argument("--rounds", type=int, default=5)
