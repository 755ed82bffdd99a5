"""What is compared: our trainer and another at settings that match, in each trainer's own names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .order import DEMO, SD15

Settings = dict[str, Any]
SIDES = {"cpu": {DEMO: 128, SD15: 256}, "cuda": {DEMO: 128, SD15: 512}}  # pixels
MODELS = (DEMO, SD15)
BATCHES = (1, 4)


@dataclass(frozen=True)
class Peer:
    """A trainer that is not ours."""

    module: str  # of benchmarks/, what its process runs
    program: Path  # folder of its code
    python: Path


@dataclass(frozen=True)
class Pair:
    """One comparison, over models and batch sizes."""

    name: str  # its ratios are called step_vs_NAME and memory_vs_NAME
    title: str
    peer: Peer
    ours: Settings
    theirs: Settings
    adapts: str  # what ours trains, as run_floor names it
    precision: str  # in which ours computes; "auto" for what it chooses
    # What both trainers of SD 1.5 take at most together, and how much more per picture of a batch.
    gigabytes: tuple[int, int]
    models: tuple[str, ...] = MODELS

    def fits_twice(self, model: str, batch: int, memory: int) -> bool:
        """Whether a machine with `memory` bytes can hold both trainers at a time."""
        most, more = self.gigabytes
        return model == DEMO or most + more * batch <= memory / 1e9


def host_pairs(host: Peer, device: str) -> list[Pair]:
    """Our trainer and ComfyUI's own node.

    They are compared on the same layers, without and with checkpointing, and each by its defaults.
    """
    precision = _precision(device)
    same_layers = [
        Pair(
            name,
            title,
            host,
            _ours(precision, checkpointing),
            _node(precision, checkpointing),
            "all",
            precision,
            gigabytes,
        )
        for name, title, checkpointing, gigabytes in (
            ("host_same_layers", f"{precision}, all of its layers", "off", (13, 4)),
            (
                "host_same_layers_checkpointed",
                f"{precision}, all of its layers, both checkpointed",
                "on",
                (13, 1),
            ),
        )
    ]
    return [
        *same_layers,
        Pair("host_default", "each by default", host, {}, {}, "attention and text encoder", "auto", (11, 1)),
    ]


def newer_host_pairs(host: Peer, device: str) -> list[Pair]:
    """Our trainer and the node of a ComfyUI of 2026, whose `bypass_mode` leaves the weights as they are."""
    precision = _precision(device)
    modes = {"host_2026": (False, (17, 4)), "host_2026_bypass": (True, (17, 2))}
    return [
        Pair(
            name,
            f"{precision}, all of its layers{', bypass mode' if bypass else ''}",
            host,
            _ours(precision, "off"),
            _node(precision, "off") | {"bypass_mode": bypass},
            "all",
            precision,
            gigabytes,
        )
        for name, (bypass, gigabytes) in modes.items()
    ]


def standalone_pairs(trainer: Peer, tokenizer: Path, device: str) -> list[Pair]:
    """Our trainer and kohya's sd-scripts, which trains the same layers by default; both with AdamW."""
    precision = _precision(device)
    ours = {"recipe": {"preset": "AdamW"}, "run": {"precision": precision, "checkpointing": "off"}}
    theirs = {"precision": precision, "tokenizer": str(tokenizer)}
    title = f"{precision}, UNet and text encoder, AdamW"
    return [
        Pair(
            "standalone",
            title,
            trainer,
            ours,
            theirs,
            "attention and text encoder",
            precision,
            (13, 2),
            models=(SD15,),
        )
    ]


def _precision(device: str) -> str:
    return "bf16" if device == "cuda" else "fp32"


def _ours(precision: str, checkpointing: str) -> Settings:
    return {
        "lora": {"layers": "all", "train_text_encoder": False},
        "run": {"precision": precision, "checkpointing": checkpointing},
    }


def _node(precision: str, checkpointing: str) -> Settings:
    """The node's settings. Its LoRA is in the precision of the run, the faster of its two choices."""
    return {
        "training_dtype": precision,
        "lora_dtype": precision,
        "gradient_checkpointing": checkpointing == "on",
    }
