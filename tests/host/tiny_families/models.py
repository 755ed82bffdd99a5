"""MODEL, latents and conditioning of each family of `table.py`, as ComfyUI's own loaders and nodes make them.

For scripts that run in ComfyUI's Python after `devhost.inprocess.start_comfyui`.
"""

import zlib
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import comfy.model_base
import comfy.sd
import comfy.utils
import torch
from torch import Tensor, nn

from .detection import tiny_metadata, tiny_model_config, wrapped_detection
from .table import EDITORS, FAMILIES, TinyFamily

ALL = FAMILIES | EDITORS


def load_tiny(name: str, dtype: torch.dtype = torch.float32):
    """A MODEL of the tiny family, as a loader node outputs it: its weights are inference tensors."""
    options = {"model_options": {"dtype": dtype}, "metadata": _metadata(name)}
    with torch.inference_mode(), wrapped_detection():
        return comfy.sd.load_diffusion_model_state_dict(dict(_state(name, dtype)), **options)


def write_tiny_checkpoint(path: Path, name: str, dtype: torch.dtype = torch.float32) -> None:
    """A file that Load Diffusion Model loads where detection is wrapped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    comfy.utils.save_torch_file(_state(name, dtype), str(path), metadata=_metadata(name))


def family_of(model) -> TinyFamily:
    """The tiny family that a MODEL was loaded as, also from a file."""
    return ALL[model.model.model_config.tiny_family]


def tiny_latents(model, size: int | None = None, batch: int = 1, seed: int = 0) -> Tensor:
    """Normal numbers in place of latents as the model sees them.

    [batch, channels, size, size], of video models [batch, channels, 1, size, size]
    """
    size = size or family_of(model).latent_size
    form = model.model.latent_format
    frames = [1] * (form.latent_dimensions - 2)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn([batch, form.latent_channels, *frames, size, size], generator=generator)


def tiny_text(model, tokens: int | None = None, seed: int = 0) -> dict:
    """Normal numbers in place of what the family's text encoder returns for one caption.

    tokens: with padding, at most half of them when they are given. HunyuanDiT takes 77 or more.
    Returns a dict as in ComfyUI's conditioning once it is sampled with: cross_attn [1, tokens, channels],
    pooled_output [1, channels] or None, and what else this encoder returns.
    """
    text = family_of(model).text
    padding = text.padding if tokens is None else min(text.padding, tokens // 2)
    tokens, generator = tokens or text.tokens, torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn([1, *shape], generator=generator)

    def mask(length: int) -> Tensor:
        return (torch.arange(length) < length - padding).long()[None]

    embeddings = numbers(tokens, text.channels)
    if text.zeroed:
        embeddings *= mask(tokens)[..., None]
    found = {"cross_attn": embeddings, "pooled_output": None if text.pooled is None else numbers(text.pooled)}
    if text.mask:
        found["attention_mask"] = mask(tokens)
    for key, template in text.others.items():
        shape = [tokens if length is None else length for length in template]
        found[key] = mask(*shape) if key.startswith("attention_mask") else numbers(*shape)
    return found


def random_weights(module: nn.Module) -> dict[str, Tensor]:
    """A state dict for the module in which nothing is left at zero, the same in every process.

    Each layer keeps the size of what it is given, so that what comes out at the end has about size 1.
    """
    return {key: _random_weight(key, value) for key, value in module.state_dict().items()}


def _random_weight(key: str, like: Tensor) -> Tensor:
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if key.endswith("bias"):
        noise *= 0.1
    elif noise.dim() < 2:  # gain of a norm
        noise = 1 + 0.1 * noise
    else:  # [outputs, inputs, ...], or [1, positions, channels]
        noise /= (noise[0].numel() if len(noise) > 1 else noise.shape[-1]) ** 0.5
    return noise.to(like.dtype)


@lru_cache(maxsize=1)
def _state(name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights as they are in a file of the family, with its markers."""
    markers = {marker: torch.ones(1) for marker in ALL[name].markers}
    config = tiny_model_config(_metadata(name))
    config.set_inference_dtype(dtype, None)
    with patch.object(comfy.model_base, "model_sampling"):  # Cascade's takes long
        module = config.get_model(dict(markers), "").diffusion_model
    return random_weights(module) | markers


def _metadata(name: str) -> dict[str, str]:
    return tiny_metadata(name, ALL[name].config_class, ALL[name].config)
