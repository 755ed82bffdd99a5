"""The layers of a model that a LoRA adapts, under the names that ComfyUI's own key maps give them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import comfy.lora
import torch
from torch import nn

from ..trainer.adapters.choice import text_encoder_layers, unet_layers
from ..trainer.adapters.lora import LoraAdapter, new_adapter
from ..trainer.errors import ModelError
from ..trainer.families import Family
from ..trainer.parts import UNET
from ..trainer.seeds import stream
from ..trainer.settings.lora import LoraConfig
from .network import HostNetwork
from .text_encoder import encoder_names

# How LoRA files begin the names of text encoders' layers: that of a model's only one, and those of the first,
# second and third.
_ONLY_ENCODER = "lora_te_"
_SEVERAL_ENCODERS = ("lora_te3_", "lora_te2_", "lora_te1_")  # T5 of Flux has the third by kohya's sd-scripts
_ANY_ENCODER = "text_encoders."


@dataclass(frozen=True)
class TargetLayer:
    """A layer that is adapted."""

    name: str  # in LoRA files
    part: str  # of trainer/parts.py
    module: nn.Module
    dim: int


def key_map(model, clip) -> dict[str, str]:
    """The weight that ComfyUI would patch for every LoRA layer name that it knows of this MODEL and CLIP."""
    names = comfy.lora.model_lora_keys_unet(model.model, {})
    return comfy.lora.model_lora_keys_clip(clip.cond_stage_model, names)


def target_layers(
    model, clip, family: Family, lora: LoraConfig, encoders: Sequence[str]
) -> list[TargetLayer]:
    """The layers that a LoRA adapts, of the diffusion model and of the named text encoders.

    Raises `ModelError` if ComfyUI knows no name for one, `SettingError` where patterns leave none.
    """
    names = _names_by_weight(key_map(model, clip), family, is_only=len(encoder_names(clip)) == 1)
    layers: list[TargetLayer] = []
    if lora.train_unet:
        unet = model.model.diffusion_model
        layers += _targets(UNET, unet, "diffusion_model.", unet_layers(unet, family, lora), names)
    for part in encoders:
        encoder = getattr(clip.cond_stage_model, part)
        layers += _targets(part, encoder, f"{part}.", text_encoder_layers(encoder, part, lora), names)
    return layers


def new_adapters(layers: Sequence[TargetLayer], seed: int, network: HostNetwork) -> list[LoraAdapter]:
    """A LoRA of each layer that computes zero, on the device of its part.

    How one begins depends on the seed and its name alone: another layer beside it changes nothing.
    """
    encoder = network.text_encoder
    devices = {part: encoder.device_of(encoder.encoder(part)) for part in encoder.trained}
    devices[UNET] = network.device
    with torch.inference_mode(False):  # in which ComfyUI's executor runs nodes, and no parameter can train
        return [
            new_adapter(
                layer.name,
                layer.part,
                layer.module,
                layer.dim,
                stream(seed, "init", layer.name),
                devices[layer.part],
            )
            for layer in layers
        ]


def _targets(
    part: str, root: nn.Module, prefix: str, dims: Mapping[str, int], names: Mapping[str, str]
) -> Iterator[TargetLayer]:
    for name, dim in dims.items():
        weight = f"{prefix}{name}.weight"
        if weight not in names:
            raise ModelError(
                f"ComfyUI has no LoRA name for {weight}, so that a LoRA of it could not be loaded. Nothing"
                " was trained."
            )
        yield TargetLayer(names[weight], part, root.get_submodule(name), dim)


def _names_by_weight(keys: Mapping[str, str], family: Family, is_only: bool) -> dict[str, str]:
    """The one name that files use, of the many that ComfyUI accepts for each weight.

    is_only: whether the model has one text encoder.
    """
    by_weight: dict[str, tuple[int, str]] = {}
    for name, weight in keys.items():
        rank = _rank(name, weight, family, is_only)
        # a name of a slice of a weight comes with a tuple
        if rank is not None and isinstance(weight, str) and rank < by_weight.get(weight, (99, ""))[0]:
            by_weight[weight] = (rank, name)
    return {weight: name for weight, (_, name) in by_weight.items()}


def _rank(name: str, weight: str, family: Family, is_only: bool) -> int | None:
    """How far behind a name stands among those for a weight; None for one that other tools do not write."""
    if name.startswith("lora_unet_"):
        path = str(weight).removeprefix("diffusion_model.").removesuffix(".weight")
        is_raw = name == f"lora_unet_{path.replace('.', '_')}"
        return 0 if is_raw != family.files.diffusers else 1
    if name.startswith("diffusion_model."):
        return 2
    for rank, prefix in enumerate((_ONLY_ENCODER,) if is_only else _SEVERAL_ENCODERS):
        if name.startswith(prefix):
            return rank
    return len(_SEVERAL_ENCODERS) if name.startswith(_ANY_ENCODER) else None
