"""Starts trainers in processes of their own, and has the options that choose which."""

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from devhost.console import say
from devhost.errors import HostError
from devhost.layout import CHECKOUT, Host, local_folder

from .order import SD15_WHOLE, Order, stage
from .pairs import (
    BATCHES,
    MODELS,
    SIDES,
    Pair,
    Peer,
    Settings,
    host_pairs,
    newer_host_pairs,
    standalone_pairs,
)
from .turns import Trainer

RUN_MODULE = CHECKOUT / "devhost" / "run_module.py"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), metavar="N")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only these comparisons, such as host_default"
    )
    parser.add_argument(
        "--sd-scripts",
        type=Path,
        metavar="PATH",
        help="a checkout of kohya-ss/sd-scripts; see benchmarks/README.md",
    )
    parser.add_argument(
        "--sd-scripts-python", type=Path, metavar="PYTHON", help="the Python that has its packages"
    )
    parser.add_argument("--sd-scripts-tokenizer", type=Path, metavar="PATH", help="its tokenizer_cache_dir")
    parser.add_argument(
        "--other-comfyui", type=Path, metavar="PATH", help="a ComfyUI whose Train LoRA node has bypass_mode"
    )
    parser.add_argument("--other-python", type=Path, metavar="PYTHON", help="the Python that runs it")


def chosen_pairs(options: argparse.Namespace) -> tuple[list[Pair], list[str]]:
    """The comparisons that were asked for, and a line on each that is not possible here.

    Raises `HostError` for an unknown name.
    """
    host = Host.from_environment()
    pairs = host_pairs(Peer("run_host_node", host.comfyui, host.python), options.device)
    left_out = []
    if options.other_comfyui and options.other_python:
        pairs += newer_host_pairs(
            Peer("run_host_node", options.other_comfyui.absolute(), options.other_python.absolute()),
            options.device,
        )
    else:
        left_out.append("A ComfyUI of 2026: not given (--other-comfyui and --other-python).")
    if options.sd_scripts and options.sd_scripts_python and options.sd_scripts_tokenizer:
        trainer = Peer("run_sd_scripts", options.sd_scripts.absolute(), options.sd_scripts_python.absolute())
        pairs += standalone_pairs(trainer, options.sd_scripts_tokenizer.absolute(), options.device)
    else:
        left_out.append(
            "sd-scripts: not given (--sd-scripts, --sd-scripts-python and --sd-scripts-tokenizer)."
        )
    names = [pair.name for pair in pairs]
    for name in options.only or []:
        if name not in names:
            raise HostError(f"--only: expected some of {', '.join(names)}, got {name}. {' '.join(left_out)}")
    return [pair for pair in pairs if not options.only or pair.name in options.only], left_out


class Trainers:
    """Starts trainers with the files in `folder`. `staged` makes it."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder = folder
        self.device = device
        self.base = stage(folder / "base")
        self._us = Peer("run_ours", Host.from_environment().comfyui, Host.from_environment().python)

    def ours(self, pair: Pair, model: str, batch: int, watch: str = "time") -> Trainer:
        return self._start(self._us, model, batch, pair.ours, watch)

    def theirs(self, pair: Pair, model: str, batch: int, watch: str = "time") -> Trainer:
        model = SD15_WHOLE if pair.peer.module == "run_sd_scripts" else model
        return self._start(pair.peer, model, batch, pair.theirs, watch)

    def ours_by_default(self, model: str, batch: int, watch: str) -> Trainer:
        return self._start(self._us, model, batch, {}, watch)

    def counts(self, model: str) -> dict:
        """What `run_floor` counts."""
        counter = Peer("run_floor", self._us.program, self._us.python)
        with self._start(counter, model, 1, {}, "") as process:
            return process.first

    def _start(self, peer: Peer, model: str, batch: int, settings: Settings, watch: str) -> Trainer:
        side = SIDES[self.device][model.removesuffix("_whole")]
        order = Order(str(peer.program), str(self.base), self.device, model, side, batch, settings, watch)
        if not order.checkpoint.exists():
            with self._run("run_checkpoint", self._us.python, replace(order, program=str(self._us.program))):
                say(f"Wrote {order.checkpoint.name}.")
        return self._run(peer.module, peer.python, order)

    def _run(self, module: str, python: Path, order: Order) -> Trainer:
        command = [
            str(python),
            str(RUN_MODULE),
            str(CHECKOUT),
            "--",
            f"benchmarks.{module}",
            order.to_argument(),
        ]
        # All with as many threads as torch takes here; another torch might take another number.
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        return Trainer(command, self.folder / f"{module}.log", threads)


@contextmanager
def staged(device: str) -> Iterator[Trainers]:
    """Trainers with their files, which are removed after the block."""
    local_folder().mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=local_folder(), prefix="bench-", ignore_cleanup_errors=os.name == "nt"
    ) as folder:
        yield Trainers(Path(folder), device)


def tell(pair: Pair, model: str, batch: int) -> None:
    say(f"{pair.name}: {model}, batch {batch} ({pair.title})")
