"""D-Adaptation for Adam, in a handful of tensor operations a step whatever the number of layers.

    Defazio & Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", 2023, arXiv 2301.07733: its Adam, in
    the form of `dadaptation` 3.2 (`dadapt_adam.py`), which is this module's reference.

Over all parameters together, with `r` the `layer_scale` of a group and `dlr = d * lr` for the d of the step
before:

    nw  <- sqrt(b2) * nw + (1 - sqrt(b2)) * sum r * dlr * <g, s / (sqrt(v) + eps)>      old s, old v
    m   <- b1 * m + r * dlr * (1 - b1) * g
    v   <- b2 * v + (1 - b2) * g^2
    s   <- sqrt(b2) * s + (1 - sqrt(b2)) * dlr * g
    d^   = nw / ((1 - sqrt(b2)) * sum r * |s|_1)                                        new s
    d   <- max(d, min(d^, d * growth_rate))
    p   <- p - decay * dlr * p - m / (sqrt(v) + eps)                                    new m, new v

The move of p needs the d that is already inside m, so the two sums are all that has to reach the host:
`form_sums` launches them over every group, one read brings them over, `next_d` gives d, and `adam_step`
changes the state; or, where a sum is not finite, nothing is changed at all.
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
    """What a step would make of d."""

    d: float
    nw: list[float]  # by group
    moves: bool  # False: no gradient was ever other than zero, so that there is nothing to go by


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

    The factors r, dlr and sqrt(b2) are left to the host. The norm is there for the log and as the guard:
    squares that overflow would stay in v for ever.
    """
    torch.linalg.vector_norm(g, out=sums.g_norm)
    if s is None:
        return
    direction = torch.div(s, _denominator(v, eps, out=scratch), out=scratch)
    torch.dot(g, direction, out=sums.numerator)
    torch.sum(_undecayed_s(s, g, dlr, sqrt_beta2, out=scratch).abs_(), dim=0, out=sums.s_l1)


def next_d(d: float, nw: float, s_l1: float, *, sqrt_beta2: float, growth_rate: float, d_cap: float) -> float:
    """The new d from `nw` and `s_l1 = sum r * |s|_1 > 0`: never lower than before, except for the cap."""
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
    """One step, in place, the equations of the module's docstring. The step is inside m: nothing of the new
    d.

    `decay` is AdamW's (Loshchilov & Hutter, arXiv 1711.05101) and, as in dadaptation, not scaled by r.
    """
    if s is not None:
        sqrt_beta2 = math.sqrt(beta2)
        s_new = _undecayed_s(s, g, dlr, sqrt_beta2, out=s if s.dtype == g.dtype else scratch).mul_(sqrt_beta2)
        if s_new is not s:
            s.copy_(s_new)
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
    """m, v and p in one kernel of torch's: with m in units of `rate` they move as in AdamW, but for its
    corrections of the first steps.
    """
    late = torch.full((), LATE_STEP, device=p.device, dtype=torch.float32)
    m.mul_(1 / rate)
    settings = dict(
        lr=rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay, amsgrad=False, maximize=False
    )
    adamw([p], [g], [m], [v], [], [late], fused=True, foreach=False, **settings)
    m.mul_(rate)


def bias_correction(beta1: float, beta2: float, k: int) -> float:
    """Adam's, as one factor on dlr, for the step with k steps before it."""
    return math.sqrt(1 - beta2 ** (k + 1)) / (1 - beta1 ** (k + 1))


def _denominator(v: Tensor, eps: float, *, out: Tensor) -> Tensor:
    return torch.sqrt(v, out=out).add_(eps)


def _undecayed_s(s: Tensor, g: Tensor, dlr: float, sqrt_beta2: float, *, out: Tensor) -> Tensor:
    """The new s over sqrt(b2); in g's dtype also where s is kept in bf16, so that it is rounded once."""
    return torch.add(s, g, alpha=(1 - sqrt_beta2) / sqrt_beta2 * dlr, out=out)


def in_range(blocks: Sequence[Block], sums: Sequence[Sums], estimate: Estimate) -> bool:
    """Every sum is a number; the square of no gradient, nor that of d, leaves the range of the parameters'
    dtype.
    """
    return all(
        all(map(math.isfinite, share))
        and max(share.g_norm, estimate.d) < math.sqrt(torch.finfo(block.g.dtype).max)
        for block, share in zip(blocks, sums, strict=True)
    )
