"""Compares, for every model family, the gradients that training gets with those of independent formulations.
Run by test_families.py.

usage: python family_gradients.py COMFYUI BASE [FAMILY ...]   (in ComfyUI's Python; prints one JSON object)

The families are tiny models of the real architectures, with random weights, loaded by ComfyUI's own loader
under inference mode. Every usual layer of the diffusion model and of all text encoders has a LoRA. Of each:

- "hooks": gradients through hooks, against `torch.func.functional_call` with merged weights
- "checkpointed": the same with gradient checkpointing
- "bf16": with weights stored in bf16 and computed under autocast, saving little memory against saving all
- "differences": along the gradient, against central differences of the loss of the model that ComfyUI patches
  with the LoRA, by ComfyUI's code for inference alone
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
from comfyui_dadapt_lora.comfy_host.layers import key_map  # noqa: E402
from hooked_family import Family  # noqa: E402
from patched_family import patched_loss  # noqa: E402
from tiny_families.table import FAMILIES, WRITE_OVER  # noqa: E402

STEP = 0.001  # of central differences, in the LoRA's values


def apart(ours, reference):
    return ((ours - reference).norm() / reference.norm()).item()


def differences(family, gradient):
    """How far the slope along the gradient is from its size, of each part that has one, as a share of it.

    Text encoders with random weights curve so much that a larger step would measure that.
    """
    start, errors = 0, {}
    pieces = []
    for p in family.parameters:
        pieces.append(gradient[start : start + p.numel()].view_as(p))
        start += p.numel()
    parts = [one.part for one in family.adapters for _ in range(2)]
    for part in dict.fromkeys(parts):
        own = [
            (p, piece) for p, piece, of in zip(family.parameters, pieces, parts, strict=True) if of == part
        ]
        size = torch.sqrt(sum(piece.double().square().sum() for _, piece in own)).item()
        if size == 0:
            errors[part] = None
            continue
        ends = []
        for sign in (1, -1):
            moved(own, sign * STEP / size)
            ends.append(patched_loss(family))
            moved(own, -sign * STEP / size)
        errors[part] = abs((ends[0] - ends[1]) / (2 * STEP) / size - 1)
    return errors


def moved(own, by):
    for p, piece in own:
        p.data += by * piece


def check(name):
    family = Family(name)
    ours = family.gradients(family.adapters)
    keys = key_map(family.model, family.clip)
    found = {
        "hooks": apart(ours, family.merged()),
        "checkpointed": apart(family.gradients(family.adapters, checkpoint=True), ours),
        "differences": differences(family, ours),
        "layers": len(family.layers),
        "without a name": [layer.name for layer in family.layers if layer.name not in keys],
        "finite": bool(ours.isfinite().all()),
        "no gradient": [one.name for one in family.adapters if one.up.grad is None or not one.up.grad.any()],
    }
    stored = Family(name, torch.bfloat16)
    plain = stored.gradients(stored.adapters, saving=False, autocast=True)
    found["bf16"] = apart(stored.gradients(stored.adapters, autocast=True), plain)
    return found


def main():
    result = {}
    for name in sys.argv[3:] or FAMILIES.keys() - WRITE_OVER:
        result[name] = check(name)
    sys.stdout.write(json.dumps(result) + "\n")


main()
