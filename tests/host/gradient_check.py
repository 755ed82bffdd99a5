"""Compares the gradients that training gets through the host's modules with what the host itself computes.
Run by test_gradients.py.

usage: python gradient_check.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)

For a direction v in the LoRA's parameters, <gradient, v> from autograd through the hooks is set against the
central difference of the loss of the *patched* model, (L(theta + h v) - L(theta - h v)) / 2h: there the LoRA
is merged into the weights by ComfyUI's own code, no hook is involved, and captions are encoded by ComfyUI's
own `encode_from_tokens`. Every layer that a LoRA can adapt is adapted, of a tiny SD 1.5. ComfyUI is started
as a user on a CPU starts it, with the attention that it chooses by itself.
"""

import json
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]), pytorch_attention=False)
load_pack()

import torch  # noqa: E402
from comfyui_dadapt_lora.comfy_host import attention  # noqa: E402
from comfyui_dadapt_lora.trainer.layers import convolution  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig  # noqa: E402
from hooked_family import Family  # noqa: E402
from patched_family import patched_loss  # noqa: E402

PARTS = ("unet", "clip_l")


def change(family, autocast, compute=None, **ways):
    """How far the gradients move when they are computed in another way, over their size."""
    compute = compute or known_gradients
    plain = known_gradients(family, autocast=autocast, saving=False)
    return apart(compute(family, autocast=autocast, **ways), plain)


_known = {}  # a CPU without bf16 takes long for one


def known_gradients(family, **way):
    """Those of all adapters, computed once per way."""
    key = tuple(sorted(way.items()))
    if key not in _known:
        _known[key] = all_gradients(family, **way)
    return _known[key]


def all_gradients(family, **way):
    return family.gradients(family.adapters, **way)


def apart(ours, reference):
    return ((ours - reference).norm() / reference.norm()).item()


def rounding(family):
    """How far each part's gradients in bf16 are from those in fp32, over their size."""
    exact, rounded = (known_gradients(family, autocast=bf16, saving=True) for bf16 in (False, True))
    parts = [one.part for one in family.adapters for p in (one.down, one.up) for _ in range(p.numel())]
    masks = {part: torch.tensor([own == part for own in parts]) for part in PARTS}
    return {part: apart(rounded[mask], exact[mask]) for part, mask in masks.items()}


@contextmanager
def counted_attention():
    """How often the attention of training is asked for, and how often it is then computed plainly."""
    calls = Counter()
    originals = {name: getattr(attention, name) for name in ("training_attention", "plain_attention")}

    def counting(name):
        def counted(*args, **kwargs):
            calls[name] += 1
            return originals[name](*args, **kwargs)

        return counted

    for name in originals:
        setattr(attention, name, counting(name))
    replacements = attention._REPLACEMENTS.copy()
    for name in ("optimized_attention", "optimized_attention_masked"):
        attention._REPLACEMENTS[name] = attention.training_attention
    yield calls
    attention._REPLACEMENTS.update(replacements)
    for name, original in originals.items():
        setattr(attention, name, original)


@contextmanager
def as_products():
    """Computes every convolution as a matrix product, and gives the list of those that were.

    That is for large weights at few output positions, of which a tiny model has none.
    """
    made = []
    before = vars(convolution).copy()

    def counted(module, x):
        made.append(module)
        return before["convolution_as_product"](module, x)

    convolution.convolution_as_product = counted
    convolution.LARGE_WEIGHT = 0
    convolution.MOST_POSITIONS = 2**30
    yield made
    for name in ("convolution_as_product", "LARGE_WEIGHT", "MOST_POSITIONS"):
        setattr(convolution, name, before[name])


def attentions(family):
    """Two for each of the UNet's transformer blocks, one for each layer of the text encoder."""
    kinds = Counter(
        type(module).__name__ for network in family.network.modules for module in network.modules()
    )
    return 2 * kinds["BasicTransformerBlock"] + kinds["CLIPAttention"]


def directional(family, part: str, kind: str, h: float):
    """<gradient, v> and the central difference along v: the normalised gradient itself, of one kind of matrix
    of one part.
    """
    parameters = [getattr(one, kind) for one in family.adapters if one.part == part]
    norm = torch.sqrt(sum(p.grad.double().square().sum() for p in parameters))
    directions = [p.grad / norm.float() for p in parameters]
    ends = []
    for sign in (1, -1):
        for p, v in zip(parameters, directions, strict=True):
            p.data += sign * h * v
        ends.append(patched_loss(family))
        for p, v in zip(parameters, directions, strict=True):
            p.data -= sign * h * v
    return norm.item(), (ends[0] - ends[1]) / (2 * h)


def hooked_loss(family):
    with family.entered(), torch.no_grad():
        return family.loss().item()


def main():
    family = Family("SD15", lora=LoraConfig(layers="all", dim=4))
    all_gradients(family)
    result = {"loss": hooked_loss(family), "patched_loss": patched_loss(family), "directions": {}}
    for part in PARTS:
        for kind in ("down", "up"):
            result["directions"][f"{part}.{kind}"] = directional(family, part, kind, h=0.02)
    for name, autocast in {"fp32": False, "bf16": True}.items():
        result[f"saving {name}"] = change(family, autocast, saving=True)
        result[f"checkpointed {name}"] = change(family, autocast, saving=True, checkpoint=True)
    with as_products() as made:
        result["products fp32"] = change(family, False, all_gradients, saving=True)
        result["convolutions as products"] = len(made)
        result["products bf16"] = change(family, True, all_gradients, saving=True)
    result["attentions"] = attentions(family)
    with counted_attention() as calls:
        all_gradients(family, autocast=False)
        result["attention fp32"] = dict(calls)
        calls.clear()
        all_gradients(family, autocast=True)
        result["attention bf16"] = dict(calls)
    result["bf16 against fp32"] = rounding(family)
    result["without_gradient"] = [one.name for one in family.adapters if not one.up.grad.abs().sum() > 0]
    sys.stdout.write(json.dumps(result) + "\n")


main()
