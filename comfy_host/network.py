"""ComfyUI's diffusion models as the training loop sees them: one class for every family."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ..trainer.data.latents import LatentPicture
from ..trainer.families import Family
from ..trainer.layers.blocks import blocks_of
from ..trainer.layers.norms import norm_inputs_copied
from ..trainer.objective.levels import Levels
from .attention import attention_for_training
from .conditioning import Conditioner, Conds, groups, joined
from .sampling import NoiseLevels
from .text_encoder import HostTextEncoder


class HostNetwork:
    """A MODEL and CLIP of ComfyUI as a `trainer.objective.network.Network`.

    Use it inside `ready`, after both are loaded.
    """

    def __init__(self, model, text_encoder: HostTextEncoder, family: Family) -> None:
        self.patcher = model
        self.text_encoder = text_encoder
        self.noise_levels = NoiseLevels(model.get_model_object("model_sampling"))
        self.device = model.load_device
        self._conditioner = Conditioner(model, family)
        self._raw_output: Tensor | None = None

    @property
    def unet(self) -> nn.Module:
        return self.patcher.model.diffusion_model

    @property
    def _is_unet(self) -> bool:
        """Whether it is one of the UNets of SD 1.5 to SDXL, which read text by cross-attention alone."""
        return isinstance(self.unet, UNetModel)

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

    def blocks(self) -> list[nn.Module]:
        """The blocks that gradient checkpointing takes one by one."""
        trained = [self.unet, *self.text_encoder.trained_encoders]
        return [block for network in trained for block in blocks_of(network).values()]

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Inside the block gradients are right, and the network's raw output is caught.

        ComfyUI makes a picture estimate of that, which is the difference of large numbers at low noise.
        """
        with ExitStack() as stack:
            stack.callback(self.forget)
            stack.callback(self.unet.register_forward_hook(self._catch).remove)
            stack.enter_context(norm_inputs_copied(self._written_over()))
            stack.enter_context(attention_for_training())
            stack.enter_context(self.text_encoder.ready())
            yield

    def forget(self) -> None:
        """Lets go of what a pass that did not end has left, and of what can be made again."""
        self._raw_output = None
        self._conditioner.forget()

    def levels(self, u: Tensor) -> Levels:
        return self.noise_levels.levels(u)

    def encode(self, pictures: Sequence[LatentPicture]) -> list[Conds]:
        """What the network wants beside the latents of each picture."""
        texts = self.text_encoder.encode([picture.caption for picture in pictures])
        make = self._conditioner.of if self.text_encoder.trains else self._conditioner.remembered
        return [make(picture, text) for picture, text in zip(pictures, texts, strict=True)]

    def predict(self, noised: Tensor, levels: Levels, conditioning: Sequence[Conds]) -> Tensor:
        sigmas = levels.sigmas.to(self.device, torch.float32, non_blocking=True)
        apart = groups(conditioning, may_repeat=self._is_unet)
        if len(apart) == 1:
            return self._output(noised, sigmas, conditioning)
        outputs = [
            self._output(noised[places], sigmas[places], [conditioning[place] for place in places])
            for places in apart
        ]
        order = [place for places in apart for place in places]
        return torch.cat(outputs)[torch.tensor(order).argsort().to(self.device)]

    def _output(self, noised: Tensor, sigmas: Tensor, conditioning: Sequence[Conds]) -> Tensor:
        # the options are new each time: ComfyUI writes into them
        self.patcher.model.apply_model(noised, sigmas, transformer_options={}, **joined(conditioning))
        output = self._raw_output
        self._raw_output = None
        return output

    def _written_over(self) -> Iterator[nn.Module]:
        """The modules among which norms read what is written over after them (`x += attention(norm(x))`).

        ComfyUI's UNets of SD 1.5 to SDXL do not write so, and are spared the copies.
        """
        if not self._is_unet:
            yield from self.unet.modules()
        for encoder in self.text_encoder.trained_encoders:
            yield from encoder.modules()

    def _catch(self, unet: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._raw_output = output
