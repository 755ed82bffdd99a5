"""The order that a trainer's process gets as its one argument, and the files that are put in place for it."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from demo.checkpoint import NAME
from demo.stage import DATASET, stage_checkpoint
from devhost.base import prepare_base

DEMO = "demo"
SD15 = "sd15"
SD15_WHOLE = "sd15_whole"
PICTURES = 8  # of the demo's, so that batches of 4 have a choice
RANK = 16


@dataclass(frozen=True)
class Order:
    """What one trainer is to do, with one model and one batch size."""

    program: str  # folder of ComfyUI, or of another trainer
    base: str  # ComfyUI's base directory, with the checkpoint and the pictures
    device: str  # "cpu" or "cuda"
    model: str  # DEMO, or what run_checkpoint writes
    side: int  # of the pictures, in pixels
    batch: int
    settings: dict[str, Any] = field(default_factory=dict)  # of that trainer, by its own names
    watch: str = "time"  # "time", "memory" or "parts"

    def to_argument(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> "Order":
        return cls(**json.loads(text))

    @property
    def demo_checkpoint(self) -> Path:
        return Path(self.base, "models", "checkpoints", NAME)

    @property
    def checkpoint(self) -> Path:
        if self.model == DEMO:
            return self.demo_checkpoint
        return self.demo_checkpoint.with_name(f"{self.model}.safetensors")

    @property
    def pictures(self) -> Path:
        """A folder with one folder of pictures and captions, `1_fluent3d`."""
        return pictures_below(Path(self.base))


def stage(base: Path) -> Path:
    """Makes a base directory with what every order needs."""
    prepare_base(base)
    stage_checkpoint(base)
    target = pictures_below(base) / "1_fluent3d"
    target.mkdir(parents=True, exist_ok=True)
    for picture in sorted(DATASET.glob("train/*/*.png"))[:PICTURES]:
        for file in (picture, picture.with_suffix(".txt")):
            shutil.copyfile(file, target / file.name)
    return base


def pictures_below(base: Path) -> Path:
    return base / "input" / "bench"
