"""The loss of a tiny model that ComfyUI patches with a LoRA, by ComfyUI's code for inference alone.

Imported after ComfyUI has been started.
"""

import torch
from comfyui_dadapt_lora.comfy_host.conditioning import Conditioner, joined
from comfyui_dadapt_lora.comfy_host.loading import load_together
from comfyui_dadapt_lora.comfy_host.lora_model import LoraModel, apply_lora
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model
from comfyui_dadapt_lora.comfy_host.prompts import as_plain_prompt, weighs_words
from comfyui_dadapt_lora.trainer.adapters.file import lora_tensors
from hooked_family import U


def patched_loss(family):
    """By ComfyUI's code for inference, with the LoRA as its own patches."""
    lora = LoraModel(lora_tensors(family.adapters), {}, {})
    with torch.inference_mode():
        model, clip = apply_lora(family.model, family.clip, lora)
        load_together([model, clip.patcher], 0)
        has_weights = weighs_words(clip)
        total = 0.0
        for place, picture in enumerate(family.pictures):
            prompt = as_plain_prompt(picture.caption, has_weights)
            total += _loss_of(family, model, clip, place, prompt)
        model.unpatch_model()
        clip.patcher.unpatch_model()
    return total / len(family.pictures)


def _loss_of(family, model, clip, place, prompt):
    text = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True, return_dict=True)
    text["cross_attn"] = text.pop("cond")
    conds = Conditioner(model, family_of_model(model)).of(family.pictures[place], text)
    own = family.network.levels(torch.tensor(U[place : place + 1], dtype=torch.float64))
    latents, noise = family.pictures[place].latent[None], family.noise[place : place + 1]
    sigma = own.sigmas.float()
    x = own.noised(latents, noise)
    picture = model.model.apply_model(x, sigma, transformer_options={}, **joined([conds])).double()
    output = (picture - own.of_noised.item() * x) / own.slope.item()
    return (output - own.target(latents, noise)).square().mean().item()
