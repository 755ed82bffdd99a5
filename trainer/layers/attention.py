"""Attention on a CPU in bf16, where PyTorch's own is slow.

Forward and backward together, PyTorch's attention takes 2 to 3 times as long there as this one.

This one rounds the scores to bf16, by up to 0.4% of their size; PyTorch's does not. On the demo's model the
LoRA's gradient is then 0.9 to 1.9% off from fp32's, with PyTorch's own attention 0.8 to 1.6%. We have not
measured this on a full-size model.
"""

import torch
from torch import Tensor

# The softmax [..., queries, keys] is saved for backward, which PyTorch's own attention avoids. So this is for
# few keys only.
MOST_KEYS = 256


def is_faster_plain(q: Tensor, k: Tensor) -> bool:
    """Whether `plain_attention` is the better choice for q and k [..., tokens, channels]."""
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] <= MOST_KEYS


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(channels) + mask) v, with q, k and v [batch, heads, tokens, channels].

    This is equation 1 of Vaswani et al. 2017 (arXiv 1706.03762). `mask` broadcasts to [batch, heads, query
    tokens, key tokens].
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        # The lowest number of fp32 is minus infinity in bf16, so a mask in fp32 is limited before the cast.
        scores = scores + mask.clamp(min=torch.finfo(scores.dtype).min).to(scores.dtype)
    return scores.softmax(dim=-1) @ v
