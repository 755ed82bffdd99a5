"""Which layers of a network get a LoRA, and of which dim."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import islice

from torch import nn

from ..errors import ModelError, SettingError
from ..families import Family
from ..layers.adaptable import is_adaptable
from ..layers.blocks import blocks_of, layers_inside
from ..parts import UNET, label_of
from ..settings.lora import ALL, LoraConfig

SHOWN = 3  # names of layers in an error
# Layers of a text encoder that see pictures, which captions never reach: those of Qwen2.5-VL and Gemma 3.
_SEES_PICTURES = re.compile(r"(?:^|\.)vis(?:ual|ion)")


def unet_layers(network: nn.Module, family: Family, lora: LoraConfig) -> dict[str, int]:
    """The dim of each adapted layer of the diffusion model, by its name below the network.

    Raises `SettingError` for patterns that leave no layer, `ModelError` for a network that has none.
    """
    modules = {name: module for name, module in network.named_modules() if is_adaptable(module)}
    kernels = {name: _kernel(module) for name, module in modules.items()}
    chosen = list(_pool(network, modules, kernels, family, lora))
    if not chosen:
        raise _no_layers(UNET)
    kept = _matching(chosen, lora)
    return {name: lora.conv_dim if kernels[name] > 1 and lora.conv_dim else lora.dim for name in kept}


def text_encoder_layers(encoder: nn.Module, part: str, lora: LoraConfig) -> dict[str, int]:
    """The same of a text encoder: the linear layers of its blocks."""
    chosen = [name for name in layers_inside(blocks_of(encoder)) if not _SEES_PICTURES.search(name)]
    if not chosen:
        raise _no_layers(part)
    return dict.fromkeys(chosen, lora.dim)


def _pool(
    network: nn.Module, modules: Iterable[str], kernels: dict[str, int], family: Family, lora: LoraConfig
) -> Iterable[str]:
    """The layers that patterns choose from, in the network's order."""
    if lora.layers == ALL:
        return modules
    inside = layers_inside(blocks_of(network))
    return [name for name in modules if _is_usual(name, inside, kernels[name], family, lora)]


def _is_usual(name: str, inside: dict[str, nn.Module], kernel: int, family: Family, lora: LoraConfig) -> bool:
    if kernel > 1:
        return lora.conv_dim > 0 and name in inside
    if family.layers:
        return bool(family.layers.search(name))
    return name in inside and not family.leaves_out.search(name)


def _kernel(module: nn.Module) -> int:
    return max(getattr(module, "kernel_size", (1,)))


def _matching(names: list[str], lora: LoraConfig) -> list[str]:
    include, exclude = _patterns(lora.include), _patterns(lora.exclude)
    kept = [
        name
        for name in names
        if (not include or _fits(name, include)) and not (exclude and _fits(name, exclude))
    ]
    if not kept:
        raise SettingError(
            f"include and exclude leave none of the {len(names)} layers. Expected parts of names as they are"
            f" in this model: {', '.join(islice(names, SHOWN))}, ... A * stands for anything; several are"
            " separated by commas."
        )
    return kept


def _patterns(text: str) -> list[str]:
    return [f"*{pattern.strip()}*" for pattern in text.split(",") if pattern.strip()]


def _fits(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _no_layers(part: str) -> ModelError:
    return ModelError(
        f"No layer of the {label_of(part)} is found inside repeated blocks: this model is built otherwise"
        " than those that can be trained. Choose layers 'all' at LoRA Config."
    )
