"""Attention as it is computed while training.

What ComfyUI picks for its UNet is for inference: its flash operator has no gradient, and its sub-quadratic
one, which it takes on a CPU, writes in place. What it picks for its text encoder has a gradient, but is slow
in bf16 on a CPU.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import comfy.clip_model
import comfy.ldm.modules.attention
import torch
from torch import Tensor, nn

from ..trainer.layers.attention import is_faster_plain, plain_attention
from ..trainer.layers.wrapping import Forward, forwards_wrapped

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
        by_head = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        return plain_attention(*by_head, mask).transpose(1, 2).flatten(-2)
    return comfy.ldm.modules.attention.attention_pytorch(q, k, v, heads, mask, attn_precision, **layout)


def _asks_for_more(layout: dict[str, Any]) -> bool:
    """For another layout, or another scale, or fewer heads of keys than of queries."""
    return any(value for name, value in layout.items() if name not in HARMLESS)


def _is_added(mask: Tensor | None) -> bool:
    """To the scores of every head, in a shape that fits them as it is."""
    return mask is None or (mask.is_floating_point() and mask.dim() in (2, 4))


def for_unet(chosen: Any, *args: Any, **kwargs: Any) -> Tensor:
    """For `optimized_attention_override` in transformer_options, in place of what ComfyUI chose."""
    return training_attention(*args, **kwargs)


def for_text_encoder(modules: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """The attentions among `modules` compute so inside the block."""
    attentions = [module for module in modules if isinstance(module, comfy.clip_model.CLIPAttention)]
    return forwards_wrapped(attentions, _with_training_attention)


def _with_training_attention(module: nn.Module, forward: Forward) -> Forward:
    def attend(x: Tensor, mask: Tensor | None = None, optimized_attention: Any = None) -> Tensor:
        return forward(x, mask, training_attention)

    return attend
