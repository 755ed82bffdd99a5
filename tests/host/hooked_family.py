"""A tiny model of any family with a LoRA by hooks, as training has it, and by merged weights.

Imported after ComfyUI has been started.
"""

from contextlib import ExitStack, contextmanager

import torch
from comfyui_dadapt_lora.comfy_host.inference_tensors import trainable
from comfyui_dadapt_lora.comfy_host.layers import target_layers
from comfyui_dadapt_lora.comfy_host.loading import load_together
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model
from comfyui_dadapt_lora.comfy_host.network import HostNetwork
from comfyui_dadapt_lora.comfy_host.text_encoder import HostTextEncoder, encoder_names
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.adapters.lora import new_adapter
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.layers.checkpointing import checkpointed
from comfyui_dadapt_lora.trainer.layers.frozen import save_memory
from comfyui_dadapt_lora.trainer.objective.loss import losses
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig
from tiny_families.models import load_tiny, tiny_latents
from tiny_families.text_encoders import tiny_clip

CAPTIONS = ("fluent3d, red apple", "a (very) long caption " * 16)  # CLIP makes one and two chunks of them
U = (0.3005, 0.7005)
CPU = torch.device("cpu")
SMALL = LoraConfig(dim=2)


class Family:
    """A tiny family with adapters of all its text encoders, whose `up` is not zero, so that gradients reach
    `down` too. `usual`: of those that train by default, and as a training begins.
    """

    def __init__(self, name, dtype=torch.float32, usual=False, lora=SMALL):
        self.model, self.clip = load_tiny(name, dtype), tiny_clip(name)
        family = family_of_model(self.model)
        encoders = family.text_encoders if usual else encoder_names(self.clip)
        self.network = HostNetwork(self.model, HostTextEncoder(self.clip, encoders), family)
        self.layers = target_layers(self.model, self.clip, family, lora, encoders)
        generator = torch.Generator().manual_seed(2)
        self.adapters = [
            new_adapter(layer.name, layer.part, layer.module, layer.dim, generator, CPU)
            for layer in self.layers
        ]
        for one in self.adapters:
            one.up.data = torch.randn(one.up.shape, generator=generator) * (0.0 if usual else 0.1)
        latents = tiny_latents(self.model, batch=2, seed=1)
        self.pictures = [LatentPicture(*pair) for pair in zip(latents, CAPTIONS, strict=True)]
        self.noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
        self.levels = self.network.levels(torch.tensor(U, dtype=torch.float64))
        load_together([self.model, self.clip.patcher], 0)
        if not encoders:
            with torch.inference_mode(False):
                self._remember()

    def _remember(self):
        encoder = self.network.text_encoder
        with trainable([encoder.module]), encoder.ready():
            encoder.remember(CAPTIONS, lambda done: None)

    @property
    def parameters(self):
        return [p for one in self.adapters for p in (one.down, one.up)]

    def loss(self):
        latents = torch.stack([picture.latent for picture in self.pictures])
        return losses(self.network, self.pictures, latents, self.noise, self.levels).mean()

    @contextmanager
    def entered(self, adapters=None, saving=True, checkpoint=False):
        """As a run is, with all its adapters where no others are given."""
        with ExitStack() as stack:
            stack.enter_context(trainable(self.network.modules))
            stack.enter_context(self.network.ready())
            stack.enter_context(save_memory(self.network.layers() if saving else []))
            stack.enter_context(attached(self.adapters if adapters is None else adapters))
            stack.enter_context(checkpointed(self.network.blocks() if checkpoint else []))
            yield

    def gradients(self, adapters, saving=True, checkpoint=False, autocast=False, loss=None):
        """Of all adapters, as one vector."""
        for p in self.parameters:
            p.grad = None
        with self.entered(adapters, saving, checkpoint):
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


class Whole(torch.nn.Module):
    """The networks of a family as one module, whose output is the loss."""

    def __init__(self, family):
        super().__init__()
        self.unet = family.network.unet
        self.text = family.network.text_encoder.module
        self.family = [family]  # not a submodule

    def forward(self):
        return self.family[0].loss()
