"""Attention where PyTorch's own is slow: on a CPU in bf16, forward and backward together take it 2 to 3 times
as long as this.

The scores are rounded to bf16 here, by up to 0.4% of their size, and not there. The LoRA's gradient on the
demo's model is then 0.9 to 1.9% off from fp32's, with PyTorch's own attention 0.8 to 1.6%. Of a full-size
model it was not measured.
"""

import torch
from torch import Tensor

MOST_KEYS = 256  # a softmax over them is kept for backward of each query, which PyTorch's own does not


def is_faster_plain(q: Tensor, k: Tensor) -> bool:
    """Whether `plain_attention` is the better choice for q and k [..., tokens, channels]."""
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] <= MOST_KEYS


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(channels) + mask) v (Vaswani et al. 2017, arXiv 1706.03762, eq. 1) for [batch,
    heads, tokens, channels].
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask.clamp(min=torch.finfo(scores.dtype).min).to(scores.dtype)
    return scores.softmax(dim=-1) @ v
