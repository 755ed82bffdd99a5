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
from contextlib import ExitStack
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]), pytorch_attention=False)
load_pack()

import torch  # noqa: E402
from comfyui_dadapt_lora.comfy_host.conditioning import Conditioner, joined  # noqa: E402
from comfyui_dadapt_lora.comfy_host.inference_tensors import trainable  # noqa: E402
from comfyui_dadapt_lora.comfy_host.layers import key_map, target_layers  # noqa: E402
from comfyui_dadapt_lora.comfy_host.loading import load_together  # noqa: E402
from comfyui_dadapt_lora.comfy_host.lora_model import LoraModel, apply_lora  # noqa: E402
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model  # noqa: E402
from comfyui_dadapt_lora.comfy_host.network import HostNetwork  # noqa: E402
from comfyui_dadapt_lora.comfy_host.prompts import as_plain_prompt, weighs_words  # noqa: E402
from comfyui_dadapt_lora.comfy_host.text_encoder import HostTextEncoder, encoder_names  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.file import lora_tensors  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.hooks import attached  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.lora import new_adapter  # noqa: E402
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture  # noqa: E402
from comfyui_dadapt_lora.trainer.layers.checkpointing import checkpointed  # noqa: E402
from comfyui_dadapt_lora.trainer.layers.frozen import save_memory  # noqa: E402
from comfyui_dadapt_lora.trainer.objective.loss import losses  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig  # noqa: E402
from tiny_families.models import load_tiny, tiny_latents  # noqa: E402
from tiny_families.table import FAMILIES, WRITE_OVER  # noqa: E402
from tiny_families.text_encoders import tiny_clip  # noqa: E402

CAPTIONS = ("fluent3d, red apple", "a (very) long caption " * 16)  # CLIP makes one and two chunks of them
U = (0.3005, 0.7005)
STEP = 0.001  # of central differences, in the LoRA's values
CPU = torch.device("cpu")


class Family:
    """A tiny family with adapters whose `up` is not zero, so that gradients reach `down` too."""

    def __init__(self, name, dtype=torch.float32):
        self.model, self.clip = load_tiny(name, dtype), tiny_clip(name)
        family = family_of_model(self.model)
        encoders = encoder_names(self.clip)
        self.network = HostNetwork(self.model, HostTextEncoder(self.clip, encoders), family)
        self.layers = target_layers(self.model, self.clip, family, LoraConfig(dim=2), encoders)
        generator = torch.Generator().manual_seed(2)
        self.adapters = [
            new_adapter(layer.name, layer.part, layer.module, layer.dim, generator, CPU)
            for layer in self.layers
        ]
        for one in self.adapters:
            one.up.data = torch.randn(one.up.shape, generator=generator) * 0.1
        latents = tiny_latents(self.model, batch=2, seed=1)
        self.pictures = [LatentPicture(*pair) for pair in zip(latents, CAPTIONS, strict=True)]
        self.noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
        self.levels = self.network.levels(torch.tensor(U, dtype=torch.float64))
        load_together([self.model, self.clip.patcher], 0)

    @property
    def parameters(self):
        return [p for one in self.adapters for p in (one.down, one.up)]

    def loss(self):
        latents = torch.stack([picture.latent for picture in self.pictures])
        return losses(self.network, self.pictures, latents, self.noise, self.levels).mean()

    def gradients(self, adapters, saving=True, checkpoint=False, autocast=False, loss=None):
        """Of all adapters, as one vector."""
        for p in self.parameters:
            p.grad = None
        with ExitStack() as stack:
            stack.enter_context(trainable(self.network.modules))
            stack.enter_context(self.network.ready())
            stack.enter_context(save_memory(self.network.layers() if saving else []))
            stack.enter_context(attached(adapters))
            stack.enter_context(checkpointed(self.network.blocks() if checkpoint else []))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                value = (loss or self.loss)()
            value.backward()
        zeros = (torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters)
        return torch.cat([gradient.flatten() for gradient in zeros])

    def merged(self):
        """Gradients by merged weights: no hooks, no frozen layers, no checkpointing."""
        return self.gradients([], saving=False, loss=self._loss_of_merged)

    def _loss_of_merged(self):
        whole = Whole(self)
        names = {id(module): name for name, module in whole.named_modules()}
        weights = {}
        for one in self.adapters:
            weight = one.module.weight
            change = (one.up.flatten(1) @ one.down.flatten(1)).view(weight.shape)
            weights[f"{names[id(one.module)]}.weight"] = weight + change
        return torch.func.functional_call(whole, weights, ())

    def patched_loss(self):
        """By ComfyUI's code for inference, with the LoRA as its own patches."""
        lora = LoraModel(lora_tensors(self.adapters), {}, {})
        with torch.inference_mode():
            model, clip = apply_lora(self.model, self.clip, lora)
            load_together([model, clip.patcher], 0)
            has_weights = weighs_words(clip)
            total = 0.0
            for place, picture in enumerate(self.pictures):
                total += self._patched_loss_of(
                    model, clip, place, as_plain_prompt(picture.caption, has_weights)
                )
            model.unpatch_model()
            clip.patcher.unpatch_model()
        return total / len(self.pictures)

    def _patched_loss_of(self, model, clip, place, prompt):
        text = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True, return_dict=True)
        text["cross_attn"] = text.pop("cond")
        conds = Conditioner(model, family_of_model(model)).of(self.pictures[place], text)
        own = self.network.levels(torch.tensor(U[place : place + 1], dtype=torch.float64))
        latents, noise = self.pictures[place].latent[None], self.noise[place : place + 1]
        sigma = own.sigmas.float()
        x = own.noised(latents, noise)
        picture = model.model.apply_model(x, sigma, transformer_options={}, **joined([conds])).double()
        output = (picture - own.of_noised.item() * x) / own.slope.item()
        return (output - own.target(latents, noise)).square().mean().item()


class Whole(torch.nn.Module):
    """The networks of a family as one module, whose output is the loss."""

    def __init__(self, family):
        super().__init__()
        self.unet = family.network.unet
        self.text = family.network.text_encoder.module
        self.family = [family]  # not a submodule

    def forward(self):
        return self.family[0].loss()


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
            ends.append(family.patched_loss())
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
