"""Tries a small step of every model family, as Train does before its first one. Run by test_dry_step.py.

usage: python dry_steps.py COMFYUI BASE [FAMILY ...]   (in ComfyUI's Python; prints one JSON object)

Of each family, with LoRAs of all its text encoders: what is told, what memory is said to be needed, and
whether a run gives the LoRA that it gives without a dry step.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]))
load_pack()

import torch  # noqa: E402
from comfyui_dadapt_lora.comfy_host import dry_step  # noqa: E402
from comfyui_dadapt_lora.comfy_host.network import HostNetwork  # noqa: E402
from comfyui_dadapt_lora.comfy_host.progress import Progress  # noqa: E402
from comfyui_dadapt_lora.trainer.errors import ModelError  # noqa: E402
from comfyui_dadapt_lora.trainer.objective.objective import Objective  # noqa: E402
from comfyui_dadapt_lora.trainer.run.dry_step import Tried, try_step  # noqa: E402
from comfyui_dadapt_lora.trainer.run.plan import Plan  # noqa: E402
from comfyui_dadapt_lora.trainer.run.training import Training  # noqa: E402
from prepared_family import job_of, prepared_of  # noqa: E402
from tiny_families.table import FAMILIES  # noqa: E402

STEPS = 2
MUCH, LITTLE = 2**33, 2**20  # bytes that are free beside the model


def trained(name, dry=True, room=MUCH, **run):
    """What was known before the run, and the LoRA after it."""
    job = job_of(STEPS, **run)
    prepared = prepared_of(name, job, room)
    dry_step.try_step = try_step if dry else lambda *_: Tried()
    with dry_step.ready(prepared, job, Objective(), Progress(None)) as ready:
        Training.of(ready.work, Plan.of(ready.work), lambda event: None).run()
    return ready, [p.data for one in prepared.adapters for p in (one.down, one.up)]


def check(name):
    try:
        ready, lora = trained(name)
    except ModelError as refused:
        return {"refused": str(refused)}
    _, without = trained(name, dry=False)
    return {
        "told": ready.notices,
        "need": str(ready.need),
        "checkpointing": ready.need.checkpointing,
        "plain": ready.need.memory.step(checkpointing=False),
        "checkpointed": ready.need.memory.step(checkpointing=True),
        "by the table": prepared_of(name, job_of(STEPS), MUCH).memory.step(checkpointing=False),
        "same": all(torch.equal(a, b) for a, b in zip(lora, without, strict=True)),
    }


def short_of_memory():
    """What Train decides, and advises, where next to nothing is free."""
    found = {}
    for choice in ("auto", "off"):
        ready, _ = trained("SD15", room=LITTLE, checkpointing=choice, batch_size=2)
        found[choice] = {"checkpointing": ready.need.checkpointing, "told": ready.notices}
    return found


@contextmanager
def room_for(most):
    """Training on more pictures at once runs out of memory inside the block."""
    predict = HostNetwork.predict

    def limited(self, noised, levels, conditioning):
        if torch.is_grad_enabled() and len(noised) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return predict(self, noised, levels, conditioning)

    HostNetwork.predict = limited
    try:
        yield
    finally:
        HostNetwork.predict = predict


def out_of_memory():
    """How far the LoRA of parts of batches is from that of whole ones, and what is said at the end."""
    _, whole = trained("SDXL", batch_size=2)
    with room_for(1):
        _, parts = trained("SDXL", batch_size=2)
    with room_for(0):
        try:
            trained("SDXL", batch_size=2)
        except torch.cuda.OutOfMemoryError as error:
            said = str(error)
    return {
        "apart": max((a - b).abs().max().item() for a, b in zip(parts, whole, strict=True)),
        "size": max(a.abs().max().item() for a in whole),
        "said": said,
    }


def main():
    result = {name: check(name) for name in sys.argv[3:] or FAMILIES}
    result["short of memory"] = short_of_memory()
    result["out of memory"] = out_of_memory()
    sys.stdout.write(json.dumps(result) + "\n")


main()
