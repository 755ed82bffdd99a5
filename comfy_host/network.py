"""The host's diffusion model as the training loop sees it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.model_sampling
import torch
from torch import Tensor, nn

from ..trainer.errors import ModelError
from ..trainer.families import Family, family_of
from ..trainer.layers.adaptable import matching_layers
from .attention import for_unet
from .text_encoder import HostTextEncoder


def family(model) -> Family:
    """The family of a host MODEL. Raises `ModelError` for one that cannot be trained."""
    chosen = family_of(type(model.model.model_config).__name__)
    sampling = model.get_model_object("model_sampling")
    others = (comfy.model_sampling.V_PREDICTION, comfy.model_sampling.X0)  # which the host derives from EPS
    if not isinstance(sampling, comfy.model_sampling.EPS) or isinstance(sampling, others):
        raise ModelError(
            f"This {chosen.name} model predicts something other than noise ({_bases(sampling)}). Expected an eps-prediction model; "
            "remove a ModelSamplingDiscrete node before Train, or load another checkpoint."
        )
    channels, expected = model.model.model_config.unet_config.get("in_channels"), model.model.latent_format.latent_channels
    if channels != expected:
        raise ModelError(
            f"This {chosen.name} model takes {channels} channels where a latent has {expected}: an inpainting or editing model, which "
            "cannot be trained yet. Load an ordinary checkpoint."
        )
    if not hasattr(sampling, "sigmas"):
        raise ModelError(f"This model has no table of noise levels ({_bases(sampling)}). Expected a model with discrete timesteps.")
    return chosen


def refuse_quantized(model) -> None:
    """Raises `ModelError` for weights that are more than numbers of one dtype, as GGUF's are."""
    kinds = {type(weight.data).__name__ for weight in model.model.diffusion_model.parameters() if type(weight.data) is not Tensor}
    if kinds:
        raise ModelError(
            f"This model's weights are quantized ({', '.join(sorted(kinds))}), which cannot be trained on yet. Load the checkpoint in "
            "fp16, bf16, fp32 or plain fp8."
        )


def compute_dtype(model) -> torch.dtype:
    """What the host computes in with this MODEL, whatever its weights are kept in."""
    return model.get_model_object("manual_cast_dtype") or model.model.get_dtype()


def computing_in(model, dtype: torch.dtype):
    """A MODEL whose activations are fp32 but where autocast makes them `dtype`: it only ever goes down, and fp16 has not bf16's range."""
    if dtype == torch.float32 and {model.model.get_dtype(), compute_dtype(model)} != {torch.float32}:
        model = model.clone()
        model.set_model_compute_dtype(torch.float32)
    elif dtype == torch.bfloat16 and compute_dtype(model) == torch.float16:
        model = model.clone()
        model.add_object_patch("manual_cast_dtype", torch.float32)
    return model


class HostNetwork:
    """A host MODEL and CLIP as a `trainer.objective.Network`. Use it inside `ready`, after both are loaded."""

    def __init__(self, model, text_encoder: HostTextEncoder) -> None:
        self.patcher, self.text_encoder = model, text_encoder
        self.sampling = model.get_model_object("model_sampling")
        self.timesteps = len(self.sampling.sigmas)
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
        """The host's patchers of what has to be on its device while training."""
        return [self.patcher, *([self.text_encoder.clip.patcher] if self.text_encoder.trains else [])]

    @property
    def modules(self) -> list[nn.Module]:
        return [self.patcher.model, *([self.text_encoder.module] if self.text_encoder.trains else [])]

    def layers(self) -> Iterator[nn.Module]:
        """All modules of the networks, at every depth."""
        return (layer for module in self.modules for layer in module.modules())

    def blocks(self, chosen: Family) -> list[nn.Module]:
        """The parts that checkpointing computes twice, one by one."""
        patterns = (chosen.unet_blocks, chosen.text_blocks)
        named = [dict(module.named_modules()) for module in (self.unet, self.text_encoder.module)]
        return [names[name] for names, pattern in zip(named, patterns, strict=True) for name in matching_layers(names, pattern)]

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Catches the UNet's raw output, which the host turns into a picture estimate: the difference of large numbers at low noise."""
        self._sigmas = self.sampling.sigmas.to(self.device)
        handle = self.unet.register_forward_hook(self._catch)
        try:
            with self.text_encoder.ready():
                yield
        finally:
            handle.remove()
            self._raw_output = None

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        return self.text_encoder.encode(captions).to(self.device)

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        sigmas = self._sigmas[timesteps].view(-1, *[1] * (latents.dim() - 1))
        return self.sampling.noise_scaling(sigmas, noise.clone(), latents, False)  # it may write over the noise

    def predict(self, noised: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        self.patcher.model.apply_model(noised, self._sigmas[timesteps], c_crossattn=text, transformer_options=self._options.copy())
        output, self._raw_output = self._raw_output, None
        return output

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise

    def _catch(self, unet: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._raw_output = output


def _bases(sampling: nn.Module) -> str:
    return ", ".join(base.__name__ for base in type(sampling).__bases__)
