"""What the demo leaves in its output folder: the LoRA, before_after.png, curves.png and summary.json."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfyui_dadapt_lora.trainer.record.curves import draw_curves
from comfyui_dadapt_lora.trainer.run.events import HeldoutLoss
from PIL import Image

from devhost.files import whole_file

from .grid import draw_grid
from .stage import heldout_pictures

CURVES_SIZE = (1000, 700)


@dataclass(frozen=True)
class Pair:
    """Two pictures of the same caption, prompt and seed."""

    caption: str
    without_lora: Image.Image
    with_lora: Image.Image


def write_results(
    output: Path,
    summary: dict[str, Any],
    lora: Path,
    steps_file: Path,
    pairs: Sequence[Pair],
    trigger_word: str,
) -> dict[str, Any]:
    """Writes all files, and returns the summary with their names in it. The sources stay as they are."""
    output.mkdir(parents=True, exist_ok=True)
    files = {
        "lora": output / lora.name,
        "before_after": output / "before_after.png",
        "curves": output / "curves.png",
    }
    with whole_file(files["lora"]) as partial:
        shutil.copyfile(lora, partial)
    before_after(pairs, trigger_word).save(files["before_after"])
    curves(steps_file, summary).save(files["curves"])
    summary = summary | {name: str(file) for name, file in files.items()}
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def before_after(pairs: Sequence[Pair], trigger_word: str) -> Image.Image:
    heldout = heldout_pictures()
    rows = [
        ("without LoRA", [pair.without_lora for pair in pairs]),
        ("with LoRA", [pair.with_lora for pair in pairs]),
        ("held-out picture", [Image.open(heldout[pair.caption]) for pair in pairs]),
    ]
    return draw_grid(_title(trigger_word), [pair.caption for pair in pairs], rows)


def _title(trigger_word: str) -> str:
    after = f' after the trigger word "{trigger_word}"' if trigger_word else ""
    return f"prompt: the caption of the column{after}; one seed per column"


def curves(steps_file: Path, summary: dict[str, Any]) -> Image.Image:
    records = [json.loads(line) for line in steps_file.read_text(encoding="utf-8").splitlines()]
    return draw_curves(records, [HeldoutLoss(step, loss) for step, loss in summary["heldout"]], CURVES_SIZE)
