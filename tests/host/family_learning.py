"""Trains each model family by the default recipe for a few steps. Run by test_families.py.

usage: python family_learning.py COMFYUI BASE [FAMILY ...]   (in ComfyUI's Python; prints one JSON object)

The loss is that of a fixed grid on the trained pictures, before and after.
"""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]), pytorch_attention=False)
load_pack()

import torch  # noqa: E402
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model  # noqa: E402
from comfyui_dadapt_lora.trainer.objective.grid import LossGrid  # noqa: E402
from comfyui_dadapt_lora.trainer.objective.objective import DrawnLevels, Objective  # noqa: E402
from comfyui_dadapt_lora.trainer.precision import Precision  # noqa: E402
from comfyui_dadapt_lora.trainer.run.plan import Plan  # noqa: E402
from comfyui_dadapt_lora.trainer.run.training import Training  # noqa: E402
from comfyui_dadapt_lora.trainer.run.work import Work  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.run import RunConfig  # noqa: E402
from hooked_family import CPU, Family  # noqa: E402
from tiny_families.table import FAMILIES, WRITE_OVER  # noqa: E402

STEPS = 60
SAMPLES = 8  # of the grid


def learned(name):
    family = Family(name, usual=True)
    grid = LossGrid.draw(family.pictures, torch.Generator().manual_seed(0), SAMPLES)
    work = Work(
        network=family.network,
        adapters=family.adapters,
        pictures=family.pictures,
        recipe=OptimizerConfig(),
        run=RunConfig(duration=STEPS, batch_size=2),
        precision=Precision(torch.float32, CPU),
        objective=Objective(DrawnLevels(family_of_model(family.model).noise)),
    )
    with family.entered():
        before = grid.loss(family.network)
        result = Training.of(work, Plan.of(work), lambda event: None).run()
        after = grid.loss(family.network)
    return {
        "before": before,
        "after": after,
        "d": [result.d_first, result.d_last],
        "update ratio": result.update_ratio,
        "parts": list(work.parts),
    }


def main():
    result = {}
    for name in sys.argv[3:] or FAMILIES.keys() - WRITE_OVER:
        result[name] = learned(name)
    sys.stdout.write(json.dumps(result) + "\n")


main()
