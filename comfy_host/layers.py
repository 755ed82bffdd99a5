"""The layers of a model that a LoRA adapts, under the names that ComfyUI's own key maps give them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import comfy.lora
import torch
from torch import nn

from ..trainer.adapters.lora import LoraAdapter, new_adapter
from ..trainer.errors import ModelError
from ..trainer.families import Family
from ..trainer.layers.adaptable import is_adaptable, matching_layers
from ..trainer.parts import TEXT_ENCODER, UNET, label_of
from ..trainer.seeds import stream
from ..trainer.settings.lora import ATTENTION, LoraConfig
from .network import HostNetwork


@dataclass(frozen=True)
class TargetLayer:
    """A layer that can be adapted."""

    name: str  # in LoRA files
    part: str  # of trainer/parts.py
    module: nn.Module


def key_map(model, clip) -> dict[str, str]:
    """The weight that ComfyUI would patch for every LoRA layer name that it knows of this MODEL and CLIP."""
    names = comfy.lora.model_lora_keys_unet(model.model, {})
    return comfy.lora.model_lora_keys_clip(clip.cond_stage_model, names)


def target_layers(model, clip, family: Family, lora: LoraConfig) -> list[TargetLayer]:
    """The layers that a LoRA of this family adapts.

    Raises `ModelError` if ComfyUI knows no name for one.
    """
    weight_names = _names_by_weight(key_map(model, clip), family)
    unet = _modules(model.model, "diffusion_model.")
    text_encoder = _modules(clip.cond_stage_model, "")
    layers = []
    if UNET in lora.parts:
        everything = [name for name, module in unet.items() if is_adaptable(module)]
        chosen = matching_layers(unet, family.unet_layers) if lora.layers == ATTENTION else everything
        layers += _targets(UNET, unet, chosen, weight_names)
    if TEXT_ENCODER in lora.parts:
        layers += _targets(
            TEXT_ENCODER, text_encoder, matching_layers(text_encoder, family.text_layers), weight_names
        )
    return layers


def new_adapters(
    layers: Sequence[TargetLayer], dim: int, seed: int, network: HostNetwork
) -> list[LoraAdapter]:
    """A LoRA of each layer that computes zero, on the device of its part.

    How one begins depends on the seed and its name alone: another layer beside it changes nothing.
    """
    devices = {UNET: network.device, TEXT_ENCODER: network.text_encoder.device}
    with torch.inference_mode(False):  # in which ComfyUI's executor runs nodes, and no parameter can train
        return [
            new_adapter(
                layer.name,
                layer.part,
                layer.module,
                dim,
                stream(seed, "init", layer.name),
                devices[layer.part],
            )
            for layer in layers
        ]


def _modules(root: nn.Module, prefix: str) -> dict[str, nn.Module]:
    return {name: module for name, module in root.named_modules() if name.startswith(prefix)}


def _targets(
    part: str, modules: dict[str, nn.Module], chosen: list[str], weight_names: dict[str, str]
) -> Iterator[TargetLayer]:
    if not chosen:
        raise ModelError(
            f"No layer of the {label_of(part)} is known by name: this model is built otherwise than"
            " its family."
        )
    for name in chosen:
        weight = f"{name}.weight"
        if weight not in weight_names:
            raise ModelError(
                f"ComfyUI has no LoRA name for {weight}, so that a LoRA of it could not be loaded. Nothing"
                " was trained."
            )
        yield TargetLayer(weight_names[weight], part, modules[name])


def _names_by_weight(names: dict[str, str], family: Family) -> dict[str, str]:
    """The one name that files use, of the many that ComfyUI accepts for each weight."""
    text_prefixes = tuple(family.text_prefixes.values())
    by_weight: dict[str, str] = {}
    for name, weight in names.items():
        raw = "lora_unet_" + weight.removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
        if name.startswith("lora_unet_"):
            if weight not in by_weight or (name != raw) == family.diffusers_names:
                by_weight[weight] = name
        elif name.startswith(text_prefixes):
            by_weight[weight] = name
    return by_weight
