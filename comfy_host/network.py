"""ComfyUI's diffusion model as the training loop sees it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..trainer.data.latents import LatentPicture
from ..trainer.families import Family
from ..trainer.layers.adaptable import matching_layers
from ..trainer.objective.levels import Levels
from .attention import for_unet
from .sampling import NoiseLevels
from .text_encoder import HostTextEncoder


class HostNetwork:
    """A MODEL and CLIP of ComfyUI as a `trainer.objective.network.Network`.

    Use it inside `ready`, after both are loaded.
    """

    def __init__(self, model, text_encoder: HostTextEncoder) -> None:
        self.patcher = model
        self.text_encoder = text_encoder
        self.noise_levels = NoiseLevels(model.get_model_object("model_sampling"))
        self.device = model.load_device
        self._options = {"optimized_attention_override": for_unet}
        self._raw_output: Tensor | None = None

    @property
    def unet(self) -> nn.Module:
        return self.patcher.model.diffusion_model

    @property
    def weight_dtype(self) -> torch.dtype:
        return self.patcher.model.get_dtype()

    @property
    def patchers(self) -> list:
        """ComfyUI's patchers of what has to be on its device while training."""
        return [self.patcher, *([self.text_encoder.clip.patcher] if self.text_encoder.trains else [])]

    @property
    def modules(self) -> list[nn.Module]:
        return [self.patcher.model, *([self.text_encoder.module] if self.text_encoder.trains else [])]

    def layers(self) -> Iterator[nn.Module]:
        """All modules of the networks, at every depth."""
        return (layer for module in self.modules for layer in module.modules())

    def blocks(self, chosen: Family) -> list[nn.Module]:
        """The blocks that gradient checkpointing takes one by one."""
        patterns = (chosen.unet_blocks, chosen.text_blocks)
        named = [dict(module.named_modules()) for module in (self.unet, self.text_encoder.module)]
        return [
            names[name]
            for names, pattern in zip(named, patterns, strict=True)
            for name in matching_layers(names, pattern)
        ]

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Catches the UNet's raw output inside the block.

        ComfyUI makes a picture estimate of it, which is the difference of large numbers at low noise.
        """
        handle = self.unet.register_forward_hook(self._catch)
        try:
            with self.text_encoder.ready():
                yield
        finally:
            handle.remove()
            self._raw_output = None

    def levels(self, u: Tensor) -> Levels:
        return self.noise_levels.levels(u)

    def encode(self, pictures: Sequence[LatentPicture]) -> Tensor:
        """Text embeddings [batch, tokens, channels]."""
        return self.text_encoder.encode([picture.caption for picture in pictures]).to(self.device)

    def predict(self, noised: Tensor, levels: Levels, conditioning: Tensor) -> Tensor:
        sigmas = levels.sigmas.to(self.device, torch.float32, non_blocking=True)
        options = self._options.copy()
        self.patcher.model.apply_model(noised, sigmas, c_crossattn=conditioning, transformer_options=options)
        output = self._raw_output
        self._raw_output = None
        return output

    def _catch(self, unet: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._raw_output = output
