"""Compares the gradients that training gets through the host's modules with what the host itself computes.
Run by test_gradients.py.

usage: python gradient_check.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)

For a direction v in the LoRA's parameters, <gradient, v> from autograd through the hooks is set against the
central difference of the loss of the *patched* model, (L(theta + h v) - L(theta - h v)) / 2h: there the LoRA
is merged into the weights by ComfyUI's own code, no hook is involved, and captions are encoded by ComfyUI's
own `encode_from_tokens`. Every layer that a LoRA can adapt is adapted. ComfyUI is started as a user on a CPU
starts it, with the attention that it chooses by itself.
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
from comfyui_dadapt_lora.comfy_host.loading import load_together  # noqa: E402
from comfyui_dadapt_lora.comfy_host.lora_model import LoraModel, apply_lora  # noqa: E402
from comfyui_dadapt_lora.comfy_host.prompts import as_plain_prompt  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.file import lora_tensors  # noqa: E402
from comfyui_dadapt_lora.trainer.layers import convolution  # noqa: E402
from hooked_model import CAPTIONS, gradients, inputs, new_adapters  # noqa: E402
from tiny_families.models import load_tiny  # noqa: E402
from tiny_families.text_encoders import tiny_clip  # noqa: E402

PARTS = ("unet", "clip_l")


def change(model, clip, adapters, precision, compute=None, **ways):
    """How far the gradients move when they are computed in another way, over their size."""
    plain = known_gradients(model, clip, adapters, precision=precision, saving=False)
    compute = compute or known_gradients
    return apart(compute(model, clip, adapters, precision=precision, **ways), plain)


_known = {}  # a CPU without bf16 takes minutes for one


def known_gradients(model, clip, adapters, **way):
    """`all_gradients`, computed once per way."""
    key = tuple(sorted(way.items(), key=str))
    if key not in _known:
        _known[key] = all_gradients(model, clip, adapters, **way)
    return _known[key]


def all_gradients(model, clip, adapters, **way):
    for p in parameters(adapters):
        p.grad = None
    gradients(model, clip, adapters, **way)
    return torch.cat([p.grad.flatten() for p in parameters(adapters)])


def apart(ours, reference):
    return ((ours - reference).norm() / reference.norm()).item()


def rounding(model, clip, adapters):
    """How far each part's gradients in bf16 are from those in fp32, over their size."""
    exact, rounded = (
        known_gradients(model, clip, adapters, precision=dtype, saving=True)
        for dtype in (torch.float32, torch.bfloat16)
    )
    sizes = [p.numel() for p in parameters(adapters)]
    parts = [one.part for one in adapters for _ in range(2)]
    of = {
        part: torch.cat([torch.full((n,), mine == part) for n, mine in zip(sizes, parts, strict=True)])
        for part in PARTS
    }
    return {part: apart(rounded[mask], exact[mask]) for part, mask in of.items()}


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

    That is for large weights at few output positions, of which the demo's model has none.
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


def parameters(adapters):
    return [p for one in adapters for p in (one.down, one.up)]


def attentions(model, clip):
    """Two for each of the UNet's transformer blocks, one for each layer of the text encoder."""
    kinds = Counter(
        type(module).__name__
        for network in (model.model.diffusion_model, clip.cond_stage_model)
        for module in network.modules()
    )
    return 2 * kinds["BasicTransformerBlock"] + kinds["CLIPAttention"]


def patched_loss(model, clip, adapters):
    """The same loss of the model that the host patches with the LoRA's tensors, by the host's inference code
    alone.
    """
    lora = LoraModel(lora_tensors(adapters), {}, {})
    with torch.inference_mode():
        patched, patched_clip = apply_lora(model, clip, lora)
        embeddings = [patched_clip.encode(as_plain_prompt(caption)) for caption in CAPTIONS]
        length = max(embedding.shape[1] for embedding in embeddings)
        text = torch.cat([embedding.repeat(1, length // embedding.shape[1], 1) for embedding in embeddings])
        load_together([patched], 0)
        latents, noise, u = inputs()
        sigmas = patched.model.model_sampling.sigmas
        sigma = sigmas[(u * len(sigmas)).long()]
        noised = latents + sigma.view(-1, 1, 1, 1) * noise
        denoised = patched.model.apply_model(noised, sigma, c_crossattn=text, transformer_options={})
        predicted = (noised - denoised) / sigma.view(-1, 1, 1, 1)
        return ((predicted - noise) ** 2).mean().double().item()


def directional(model, clip, adapters, part: str, kind: str, h: float):
    """<gradient, v> and the central difference along v: the normalised gradient itself, of one kind of matrix
    of one part.
    """
    parameters = [getattr(one, kind) for one in adapters if one.part == part]
    norm = torch.sqrt(sum(p.grad.double().square().sum() for p in parameters))
    directions = [p.grad / norm.float() for p in parameters]
    ends = []
    for sign in (1, -1):
        for p, v in zip(parameters, directions, strict=True):
            p.data += sign * h * v
        ends.append(patched_loss(model, clip, adapters))
        for p, v in zip(parameters, directions, strict=True):
            p.data -= sign * h * v
    return norm.item(), (ends[0] - ends[1]) / (2 * h)


def main():
    model, clip = load_tiny("SD15"), tiny_clip("SD15")
    adapters = new_adapters(model, clip)
    loss = gradients(model, clip, adapters)
    result = {"loss": loss, "patched_loss": patched_loss(model, clip, adapters), "directions": {}}
    for part in PARTS:
        for kind in ("down", "up"):
            result["directions"][f"{part}.{kind}"] = directional(model, clip, adapters, part, kind, h=0.02)
    for name, precision in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        result[f"saving {name}"] = change(model, clip, adapters, precision, saving=True)
        result[f"checkpointed {name}"] = change(
            model, clip, adapters, precision, saving=True, checkpoint=True
        )
    with as_products() as made:
        result["products fp32"] = change(model, clip, adapters, torch.float32, all_gradients, saving=True)
        result["convolutions as products"] = len(made)
        result["products bf16"] = change(model, clip, adapters, torch.bfloat16, all_gradients, saving=True)
    result["attentions"] = attentions(model, clip)
    with counted_attention() as calls:
        all_gradients(model, clip, adapters, precision=torch.float32)
        result["attention fp32"] = dict(calls)
        calls.clear()
        all_gradients(model, clip, adapters, precision=torch.bfloat16)
        result["attention bf16"] = dict(calls)
    result["bf16 against fp32"] = rounding(model, clip, adapters)
    result["without_gradient"] = [one.name for one in adapters if not one.up.grad.abs().sum() > 0]
    sys.stdout.write(json.dumps(result) + "\n")


main()
