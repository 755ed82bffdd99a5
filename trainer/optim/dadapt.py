"""D-Adaptation for Adam as a torch optimizer.

The mathematics is in `dadapt_math`. `flat_parameters` makes the parameters of a group views of one tensor and
their gradients views of another, so that a step is a handful of tensor operations however many layers there
are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..packages import package, quietly
from .dadapt_checks import ONE_D, expect, refuse_parameters, refuse_settings
from .dadapt_math import Estimate, adam_step, bias_correction, form_sums, in_range, next_d
from .flat_parameters import Block, FlatParameters, Layout, Sums, by_kind

# Of d * lr. Below it a parameter would not move in any dtype, and m divided by it leaves the range of fp32.
LEAST_RATE = 1e-30


class DAdaptAdam(torch.optim.Optimizer):
    """`dadaptation.DAdaptAdam` 3.2 over flat buffers: same numbers, same state, one synchronization per step.

    Parameters become views of the optimizer's buffers until `release()`; write into them, do not replace
    their data. A step with a gradient that is not finite changes nothing and is counted in `skipped_steps`
    and `consecutive_skipped`. Groups may have different speeds by their `layer_scale`; all groups share one
    rate and one d.

    `state_dict()` is what `dadaptation.DAdaptAdam` loads and saves, with a few more entries that it carries
    along. As in every torch optimizer its tensors are the live ones: make a copy.deepcopy() of it if training
    goes on.

    After `zero_grad()` a parameter that the loss does not reach has a gradient of zero rather than none: its
    moments decay as Adam's do. `zero_grad(set_to_none=True)` leaves it out of the step, as dadaptation does,
    and costs a copy of all gradients.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1.0,  # factor on d, which a schedule may change
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,  # a step takes away the share weight_decay * d * lr of a parameter
        decouple: bool = True,
        use_bias_correction: bool = False,
        d0: float = 1e-6,
        growth_rate: float = math.inf,  # largest factor on d per step
        d_cap: float = math.inf,
        s_dtype: torch.dtype | None = None,  # None: as the parameters; torch.bfloat16 saves 2 bytes per value
        block_size: int | None = None,  # values; None: what suits the device
    ):
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, decouple=decouple, layer_scale=1.0
        )
        defaults |= dict(use_bias_correction=use_bias_correction, growth_rate=growth_rate)
        defaults |= dict(d=min(d0, d_cap), d_cap=d_cap, d_frozen=False, k=0)
        # A group's own share of the numerator, and of |s|_1 once it has stopped and has no s any more.
        defaults |= dict(nw=0.0, stopped=False, stopped_s_l1=0.0)
        # What dadaptation reads in a state that it loads.
        defaults |= dict(numerator_weighted=0.0, log_every=0, fsdp_in_use=False)
        self._flats: list[FlatParameters] = []
        self._latest_layout: Layout | None = None
        self.s_dtype = s_dtype
        self.block_size = block_size
        self.skipped_steps = 0
        self.consecutive_skipped = 0
        self.gradient_norm = 0.0  # over all groups, of the latest step
        self.loss = 0.0  # of the latest step that was given one
        super().__init__(params, defaults)
        expect(s_dtype in (None, torch.bfloat16), f"s_dtype: expected None or torch.bfloat16, got {s_dtype}.")
        refuse_settings(self.param_groups)
        refuse_parameters(self.param_groups)
        self._flatten()

    # -- a step

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | None = None) -> Any:
        """One step. Where a sum of gradients or the loss is not finite, nothing changes.

        loss: 0-dim; its value comes with the step's one synchronization, and is `self.loss` afterwards.
        """
        result = None if closure is None else torch.enable_grad()(closure)()
        lr = self._rate()
        layout = self._layout() if self.d * lr > LEAST_RATE else None
        if layout is None or not layout.blocks:
            return result
        dlr = self.d * lr * self._bias_correction()
        scratch = layout.scratch()
        self._form_sums(layout.blocks, scratch, dlr)
        sums, self.loss = layout.read(loss)
        self.gradient_norm = math.hypot(*(block.g_norm for block in sums))
        estimate = self._estimate(layout.blocks, sums, dlr)
        if not (math.isfinite(self.loss) and in_range(layout.blocks, sums, estimate)):
            self.skipped_steps += 1
            self.consecutive_skipped += 1
        elif estimate.moves:
            self._adam_step(layout.blocks, scratch, dlr)
            self._publish(estimate)
        return result

    def zero_grad(self, set_to_none: bool = False) -> None:
        """By default the gradients stay where they are and become zero, in one operation per group."""
        for group in self.param_groups:
            if group["stopped"]:
                for p in group["params"]:
                    p.grad = None
        if set_to_none:
            return super().zero_grad(set_to_none=True)
        for flat in self._flats:
            flat.zero_gradients()

    def _bias_correction(self) -> float:
        group = self.param_groups[0]
        return bias_correction(*group["betas"], group["k"]) if group["use_bias_correction"] else 1.0

    def _form_sums(self, blocks: Sequence[Block], scratch: Sequence[Tensor], dlr: float) -> None:
        for block, free in zip(blocks, scratch, strict=True):
            group = self.param_groups[block.group]
            settings = dict(dlr=dlr, sqrt_beta2=self._sqrt_beta2, eps=group["eps"])
            form_sums(block.g, block.v, block.s, scratch=free, sums=block.sums, **settings)

    def _estimate(self, blocks: Sequence[Block], sums: Sequence[Sums], dlr: float) -> Estimate:
        """The new d, and the new `nw` of each group, by the equations in `dadapt_math`.

        `sums` holds the numbers of each block without the factors r, dlr and sqrt(b2), which enter here.
        """
        if self.d_frozen:
            return Estimate(d=self.d, nw=[0.0] * len(self.param_groups), moves=True)
        sqrt_beta2 = self._sqrt_beta2
        numerator = [0.0 for _ in self.param_groups]  # sum r * dlr * <g, s / (sqrt(v) + eps)>, by group
        # sum r * |s|_1 of the new s, by group. A stopped group counts as one whose gradient is zero: its s
        # would only decay, by sqrt(b2) per step. Its nw below fades at the same rate, so that d does not
        # jump.
        s_l1 = [sqrt_beta2 * group["stopped_s_l1"] for group in self.param_groups]
        for block, share in zip(blocks, sums, strict=True):
            r = self.param_groups[block.group]["layer_scale"]
            numerator[block.group] += r * dlr * share.numerator
            s_l1[block.group] += sqrt_beta2 * r * share.s_l1
        nw = []
        for group, new in zip(self.param_groups, numerator, strict=True):
            nw.append(sqrt_beta2 * group["nw"] + (1 - sqrt_beta2) * new)
        if sum(s_l1) == 0:  # every gradient so far was zero
            return Estimate(d=self.d, nw=nw, moves=False)
        limits = dict(growth_rate=self.param_groups[0]["growth_rate"], d_cap=self.d_cap)
        d = next_d(self.d, sum(nw), sum(s_l1), sqrt_beta2=sqrt_beta2, **limits)
        return Estimate(d=d, nw=nw, moves=True)

    def _adam_step(self, blocks: Sequence[Block], scratch: Sequence[Tensor], dlr: float) -> None:
        beta1, beta2 = self.param_groups[0]["betas"]
        for block, free in zip(blocks, scratch, strict=True):
            group = self.param_groups[block.group]
            settings = dict(r=group["layer_scale"], eps=group["eps"], decay=group["weight_decay"])
            settings |= dict(dlr=dlr, beta1=beta1, beta2=beta2)
            adam_step(block.p, block.g, block.m, block.v, block.s, scratch=free, **settings)

    def _publish(self, estimate: Estimate) -> None:
        """Write the numbers of a step that was taken into the groups."""
        self.consecutive_skipped = 0
        for group, nw in zip(self.param_groups, estimate.nw, strict=True):
            group["nw"] = nw
            group["stopped_s_l1"] *= self._sqrt_beta2
            group["d"] = estimate.d
            group["k"] += 1

    # -- what may change during a run

    @property
    def d(self) -> float:
        return self.param_groups[0]["d"]

    @property
    def d_cap(self) -> float:
        return self.param_groups[0]["d_cap"]

    @d_cap.setter
    def d_cap(self, cap: float) -> None:
        """Limit d from the next step on.

        A d that is already above comes down to the cap, and the momentum shrinks with it.
        """
        expect(cap > 0, f"d_cap: expected a number above 0, got {cap}.")
        if cap < self.d:
            for flat in self._flats:
                flat.m.mul_(cap / self.d)
        self._set(d_cap=cap, d=min(self.d, cap))

    @property
    def d_frozen(self) -> bool:
        return self.param_groups[0]["d_frozen"]

    def freeze_d(self) -> None:
        """Leave d as it is for good and free s.

        From here on this is Adam at the rate d * lr, with 8 bytes of state per value.
        """
        self._set(d_frozen=True, nw=0.0, stopped_s_l1=0.0)
        for flat in self._flats:
            flat.s = None
        self._after_change()

    def stop_group(self, index: int) -> None:
        """End the training of a group: it never moves again, its state is freed, its gradients are ignored.

        For d it counts as a group whose gradient is zero, so that its share fades out of both sums at the
        same rate. Taking the share away at once makes d jump: by 1.1 to 7 times on toy problems where the
        stopped part was the noisier one.
        """
        last = len(self.param_groups) - 1
        expect(0 <= index <= last, f"Expected a group from 0 to {last}, got {index}.")
        group = self.param_groups[index]
        flats = [flat for flat in self._flats if flat.group == index]
        group["stopped_s_l1"] += self._s_l1(index)
        group["stopped"] = True
        for flat in flats:
            flat.release()
            self._flats.remove(flat)
        self._after_change()

    def release(self) -> None:
        """Give every parameter a tensor of its own and let the buffers go.

        The optimizer is finished afterwards.
        """
        for index in range(len(self.param_groups)):
            self.stop_group(index)

    # -- resuming

    def state_dict(self) -> dict[str, Any]:
        self._set(numerator_weighted=sum(group["nw"] for group in self._active_groups()))
        for state in self.state.values():
            # dadaptation counts the steps of each parameter, and never reads that count.
            state["step"] = self.param_groups[0]["k"]
        counts = dict(skipped_steps=self.skipped_steps, consecutive_skipped=self.consecutive_skipped)
        return super().state_dict() | counts

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        expect(
            not self._flats,
            "All groups have to be there when the optimizer is made: their buffers are laid out then.",
        )
        super().add_param_group(param_group)

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that this optimizer or `dadaptation.DAdaptAdam` gave.

        Gradients are lost. Rates and limits are overwritten, as in every torch optimizer.
        """
        groups = [{**self.defaults, **group} for group in state_dict["param_groups"]]
        refuse_settings(groups)
        super().load_state_dict(state_dict | {"param_groups": groups})
        loaded = self.state
        self._flatten()
        for flat in self._flats:
            flat.load(loaded)
        self._share_numerator()
        self.skipped_steps = state_dict.get("skipped_steps", 0)
        self.consecutive_skipped = state_dict.get("consecutive_skipped", 0)

    def _share_numerator(self) -> None:
        """Share out the one numerator of a state that dadaptation wrote, in proportion to r * |s|_1."""
        total = self.param_groups[0]["numerator_weighted"]
        if sum(group["nw"] for group in self._active_groups()) == total:
            return
        s_l1 = [self._s_l1(index) for index in range(len(self.param_groups))]
        for group, share in zip(self.param_groups, s_l1, strict=True):
            group["nw"] = total * share / sum(s_l1) if share else 0.0

    # -- inside

    @property
    def _sqrt_beta2(self) -> float:
        return math.sqrt(self.param_groups[0]["betas"][1])

    def _rate(self) -> float:
        rates = [float(group["lr"]) for group in self.param_groups]
        expect(len(set(rates)) == 1, f"Different rates in different groups ({rates}): {ONE_D}")
        expect(0 <= rates[0] < math.inf, f"lr: expected a number from 0 up, got {rates[0]}.")
        return rates[0]

    def _set(self, **settings: Any) -> None:
        for group in self.param_groups:
            group.update(settings)

    def _active_groups(self) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if not group["stopped"]]

    def _s_l1(self, index: int) -> float:
        r = self.param_groups[index]["layer_scale"]
        return sum(r * flat.s_l1() for flat in self._flats if flat.group == index)

    def _flatten(self) -> None:
        for flat in self._flats:
            flat.release()
        self._flats = []  # frees the old buffers before the new ones are made
        flats = []
        for index, group in enumerate(self.param_groups):
            for params in () if group["stopped"] else by_kind(group["params"]):
                s_dtype = None if group["d_frozen"] else self.s_dtype or params[0].dtype
                flats.append(FlatParameters(index, params, s_dtype))
        self._flats = flats
        self._after_change()

    def _after_change(self) -> None:
        self._latest_layout = None
        self.state = defaultdict(dict)
        for flat in self._flats:
            self.state.update(flat.state())

    def _layout(self) -> Layout:
        present = [flat.collect_gradients() for flat in self._flats]
        if self._latest_layout is None or self._latest_layout.present != present:
            self._latest_layout = Layout.of(self._flats, present, self.block_size)
        return self._latest_layout


def reference_optimizer(
    params: Iterable[Any], *, decouple: bool = True, **settings: Any
) -> torch.optim.Optimizer:
    """`dadaptation.DAdaptAdam`, without the line that it prints, with settings as `DAdaptAdam` takes them."""
    dadaptation = package("dadaptation", "The implementation 'reference'")
    return quietly(dadaptation.DAdaptAdam, params, decouple=decouple, **settings)
