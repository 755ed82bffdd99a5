"""Attention as it is computed while training.

What ComfyUI picks for its networks is for inference: its flash operator has no gradient, and its
sub-quadratic one, which it takes on a CPU, writes in place. What it picks for its text encoders has a
gradient, but is slow in bf16 on a CPU.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import comfy.ldm.modules.attention
import torch
from torch import Tensor

from ..trainer.layers.attention import is_faster_plain, plain_attention

# keywords of ComfyUI's attention that change nothing here, whatever their values
HARMLESS = {"transformer_options", "low_precision_attention", "_inside_attn_wrapper"}


def training_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    attn_precision: Any = None,
    **layout: Any,
) -> Tensor:
    """Attention with ComfyUI's signature.

    From [batch, tokens, heads * channels] to the same, unless `layout` says otherwise.
    """
    if (
        not _asks_for_more(layout)
        and attn_precision != torch.float32
        and _is_added(mask)
        and is_faster_plain(q, k)
    ):
        # SD 3 has split v by heads already
        by_head = ((x if x.dim() == 4 else x.unflatten(-1, (heads, -1))).transpose(1, 2) for x in (q, k, v))
        return plain_attention(*by_head, mask).transpose(1, 2).flatten(-2)
    return comfy.ldm.modules.attention.attention_pytorch(q, k, v, heads, mask, attn_precision, **layout)


def _asks_for_more(layout: dict[str, Any]) -> bool:
    """For another layout, or another scale, or fewer heads of keys than of queries."""
    return any(value for name, value in layout.items() if name not in HARMLESS)


def _is_added(mask: Tensor | None) -> bool:
    """To the scores of every head, in a shape that fits them as it is."""
    return mask is None or (mask.is_floating_point() and mask.dim() in (2, 4))


def _chosen(*args: Any, **kwargs: Any) -> Any:
    """In place of the function by which ComfyUI chooses an attention for a device."""
    return training_attention


# By the names under which ComfyUI's modules import what it picked: `optimized_attention_override` in
# transformer_options does not reach PixArt, HunyuanDiT and the text encoders.
_REPLACEMENTS = {
    "optimized_attention": training_attention,
    "optimized_attention_masked": training_attention,
    "optimized_attention_for_device": _chosen,
}


@contextmanager
def attention_for_training() -> Iterator[None]:
    """All of ComfyUI's networks compute attention so inside the block."""
    replaced = [
        (module, name, vars(module)[name])
        for module in _comfyui_modules()
        for name in _REPLACEMENTS
        if name in vars(module)
    ]
    try:
        for module, name, _ in replaced:
            setattr(module, name, _REPLACEMENTS[name])
        yield
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)


def _comfyui_modules() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.startswith("comfy.") and module]
