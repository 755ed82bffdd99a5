"""D-Adaptation for Adam, in a handful of tensor operations per step however many layers there are.

    Defazio & Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", 2023, arXiv 2301.07733: its Adam, in
    the form of `dadaptation` 3.2 (`dadapt_adam.py`), which is this module's reference.

The equations run over all parameters together. `r` is the `layer_scale` of a group, and `dlr = d * lr` has
the d of the step before:

    nw  <- sqrt(b2) * nw + (1 - sqrt(b2)) * sum r * dlr * <g, s / (sqrt(v) + eps)>      old s, old v
    m   <- b1 * m + r * dlr * (1 - b1) * g
    v   <- b2 * v + (1 - b2) * g^2
    s   <- sqrt(b2) * s + (1 - sqrt(b2)) * dlr * g
    d^   = nw / ((1 - sqrt(b2)) * sum r * |s|_1)                                        new s
    d   <- max(d, min(d^, d * growth_rate))
    p   <- p - decay * dlr * p - m / (sqrt(v) + eps)                                    new m, new v

p moves by an m that has the old d inside, so that the new d is not needed for it. That makes one
synchronization per step enough: `form_sums` computes the two sums on the device, one read brings them to the
CPU, `next_d` gives d, and `adam_step` changes the state. Where a sum is not finite, nothing changes at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from .flat_parameters import Block, Sums

FUSED_ON = ("cpu", "cuda")  # where torch has had its fused AdamW since 2.4
LATE_STEP = 1e9  # a step count at which Adam's corrections of its first steps are 1


class Estimate(NamedTuple):
    """What a step makes of d."""

    d: float
    nw: list[float]  # by group
    moves: bool  # False where all gradients so far were zero: there is nothing to estimate d from


def form_sums(
    g: Tensor,  # (n,) gradient
    v: Tensor,  # (n,) second moment before the step
    s: Tensor | None,  # (n,) weighted sum of gradients before the step; None: d is frozen
    *,
    scratch: Tensor,  # (n,) overwritten
    sums: Sums,  # of 0-dim tensors, overwritten
    dlr: float,
    sqrt_beta2: float,
    eps: float,
) -> None:
    """The sums that decide d and whether there is a step at all. Changes no state.

        numerator = <g, s / (sqrt(v) + eps)>        s_l1 = |s + (1 - sqrt(b2)) / sqrt(b2) * dlr * g|_1
        g_norm = |g|_2

    The factors r, dlr and sqrt(b2) are applied to the numbers afterwards. The norm is for the record, and
    guards v, in which squares that overflow would stay for ever.
    """
    torch.linalg.vector_norm(g, out=sums.g_norm)
    if s is None:
        return
    direction = torch.div(s, _denominator(v, eps, out=scratch), out=scratch)
    torch.dot(g, direction, out=sums.numerator)
    torch.sum(_undecayed_s(s, g, dlr, sqrt_beta2, out=scratch).abs_(), dim=0, out=sums.s_l1)


def next_d(d: float, nw: float, s_l1: float, *, sqrt_beta2: float, growth_rate: float, d_cap: float) -> float:
    """The new d from `nw` and `s_l1 = sum r * |s|_1 > 0`. Only the cap makes it lower than before."""
    d_hat = nw / (1 - sqrt_beta2) / s_l1
    return min(d_cap, max(d, min(d_hat, d * growth_rate)))


def adam_step(
    p: Tensor,  # (n,) parameters
    g: Tensor,  # (n,) gradient
    m: Tensor,  # (n,) first moment of r * dlr * g
    v: Tensor,  # (n,) second moment of g
    s: Tensor | None,  # (n,) weighted sum of dlr * g; None: d is frozen
    *,
    scratch: Tensor,  # (n,) may be overwritten
    dlr: float,
    r: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
) -> None:
    """The equations for m, v, s and p of the module's docstring, in place.

    `decay` is AdamW's (Loshchilov & Hutter, arXiv 1711.05101) and, as in dadaptation, not scaled by r.
    """
    if s is not None:
        _update_s(s, g, dlr, math.sqrt(beta2), scratch)
    if p.device.type in FUSED_ON:
        _fused_adam(p, g, m, v, rate=r * dlr, beta1=beta1, beta2=beta2, eps=eps, decay=decay / r)
        return
    m.mul_(beta1).add_(g, alpha=r * dlr * (1 - beta1))
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    if decay:
        p.add_(p, alpha=-decay * dlr)
    p.addcdiv_(m, _denominator(v, eps, out=scratch), value=-1)


def _fused_adam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    *,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
) -> None:
    """m, v and p in one kernel, torch's fused AdamW.

    m is D-Adaptation's divided by `rate`, which is the first moment that AdamW expects. AdamW's corrections
    of the first steps are made to vanish by telling it a very late step.
    """
    late = torch.full((), LATE_STEP, device=p.device, dtype=torch.float32)
    m.mul_(1 / rate)
    settings = dict(
        lr=rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay, amsgrad=False, maximize=False
    )
    adamw([p], [g], [m], [v], [], [late], fused=True, foreach=False, **settings)
    m.mul_(rate)


def _update_s(s: Tensor, g: Tensor, dlr: float, sqrt_beta2: float, scratch: Tensor) -> None:
    if s.dtype == g.dtype:
        _undecayed_s(s, g, dlr, sqrt_beta2, out=s).mul_(sqrt_beta2)
    else:
        s.copy_(_undecayed_s(s, g, dlr, sqrt_beta2, out=scratch).mul_(sqrt_beta2))


def bias_correction(beta1: float, beta2: float, k: int) -> float:
    """Adam's bias correction as one factor on dlr, for the step that has k steps before it."""
    return math.sqrt(1 - beta2 ** (k + 1)) / (1 - beta1 ** (k + 1))


def _denominator(v: Tensor, eps: float, *, out: Tensor) -> Tensor:
    return torch.sqrt(v, out=out).add_(eps)


def _undecayed_s(s: Tensor, g: Tensor, dlr: float, sqrt_beta2: float, *, out: Tensor) -> Tensor:
    """The new s over sqrt(b2), in g's dtype: where s itself is in bf16, it is rounded only once."""
    return torch.add(s, g, alpha=(1 - sqrt_beta2) / sqrt_beta2 * dlr, out=out)


def in_range(blocks: Sequence[Block], sums: Sequence[Sums], estimate: Estimate) -> bool:
    """Whether every sum is finite, and the squares of the gradients and of d fit the parameters' dtype."""
    for block, share in zip(blocks, sums, strict=True):
        largest = math.sqrt(torch.finfo(block.g.dtype).max)
        if not all(map(math.isfinite, share)) or not max(share.g_norm, estimate.d) < largest:
            return False
    return True
