"""A LoRA on a model of ComfyUI, by hooks, as training has it. Imported after ComfyUI has been started."""

from contextlib import ExitStack

import torch
from comfyui_dadapt_lora.comfy_host.inference_tensors import trainable
from comfyui_dadapt_lora.comfy_host.layers import target_layers
from comfyui_dadapt_lora.comfy_host.loading import load_together
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model
from comfyui_dadapt_lora.comfy_host.network import HostNetwork
from comfyui_dadapt_lora.comfy_host.text_encoder import HostTextEncoder
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.adapters.lora import new_adapter
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.layers.checkpointing import checkpointed
from comfyui_dadapt_lora.trainer.layers.frozen import save_memory
from comfyui_dadapt_lora.trainer.objective.loss import losses
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig

CAPTIONS = ["fluent3d, red apple", "a (very) long caption " * 20]  # one and two chunks of tokens


def inputs():
    """Latents, noise, and where their noise levels lie between 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    latents, noise = (torch.randn(2, 4, 16, 16, generator=generator) for _ in range(2))
    return latents, noise, torch.tensor([0.2005, 0.7005])


def new_adapters(model, clip):
    """Adapters with a random `up`, so that gradients reach `down` too."""
    generator = torch.Generator().manual_seed(2)
    family = family_of_model(model)
    adapters = [
        new_adapter(layer.name, layer.part, layer.module, layer.dim, generator, torch.device("cpu"))
        for layer in target_layers(model, clip, family, LoraConfig(layers="all", dim=4), family.text_encoders)
    ]
    for one in adapters:
        one.up.data = torch.randn(one.up.shape, generator=generator) * 0.02
    return adapters


def gradients(model, clip, adapters, saving=True, checkpoint=False, precision=torch.float32):
    """Loss, with gradients as training gets them, through hooks on the host's loaded modules."""
    family = family_of_model(model)
    host = HostNetwork(model, HostTextEncoder(clip, family.text_encoders), family)
    load_together(host.patchers, 0)
    with ExitStack() as training:
        training.enter_context(trainable(host.modules))
        training.enter_context(host.ready())
        training.enter_context(save_memory(host.layers() if saving else []))
        training.enter_context(attached(adapters))
        training.enter_context(checkpointed(host.blocks() if checkpoint else []))
        latents, noise, u = inputs()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            pictures = [LatentPicture(*pair) for pair in zip(latents, CAPTIONS, strict=True)]
            loss = losses(host, pictures, latents, noise, host.levels(u)).mean()
        loss.backward()
    return loss.item()
