"""What the training loop asks of an optimizer.

It takes any `torch.optim.Optimizer` with one param group per part.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..precision import gradient_norm
from ..settings.optimizer import OptimizerConfig


class Numbers(NamedTuple):
    """What a step brought back to CPU memory."""

    loss: float
    gradient_norm: float
    finite: bool  # False: nothing at all was changed


class RunOptimizer(ABC):
    """Drives a torch optimizer whose groups are the trained parts, in the order of `speeds`.

    Subclasses say what their optimizer does otherwise: where its d is, how a part's speed is told, what it
    averages.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, speeds: Mapping[str, float], learning_rate: float
    ) -> None:
        self.optimizer = optimizer
        self.speeds = dict(speeds)
        self.learning_rate = learning_rate
        self.stopped: set[str] = set()
        self.frozen = False  # d
        self.limit = math.inf  # of `scale`

    # -- rates

    @property
    def d(self) -> float | None:
        """D-Adaptation's estimate of the distance to the solution; None for an optimizer that makes none."""
        return None

    @property
    @abstractmethod
    def scale(self) -> float:
        """What the learning rate is multiplied by to give AdamW's: d, or a fixed rate."""

    def rates(self) -> dict[str, float | None]:
        """d * lr of each part, as the next step uses it: what AdamW would call its learning rate.

        None for a part that has stopped.
        """
        rate = self.scale * self._rate
        return {part: None if part in self.stopped else rate * speed for part, speed in self.speeds.items()}

    def set_rate(self, factor: float) -> None:
        """The schedule's factor for the next step."""
        self._rate = self.learning_rate * factor
        for group, speed in zip(self.optimizer.param_groups, self.speeds.values(), strict=True):
            group["lr"] = self._group_rate(speed)

    def _group_rate(self, speed: float) -> float:
        return self._rate

    # -- a step

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def step(self, loss: Tensor) -> Numbers:
        """One step; nothing where a number is not finite.

        `loss` (0-dim) is read in the same wait for the device as what the step itself reads.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        value, norm = torch.stack((loss, gradient_norm(gradients, loss.device))).tolist()
        finite = math.isfinite(value) and math.isfinite(norm)
        if finite:
            self._step()
        return Numbers(value, norm, finite)

    def _step(self) -> None:
        self.optimizer.step()

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    # -- what may change during a run

    def stop(self, part: str) -> None:
        """The part does not train any more: its parameters do not move by anything."""
        self.stopped.add(part)
        for p in self._group(part)["params"]:
            p.requires_grad_(False)
            p.grad = None

    def freeze_d(self) -> None:
        """d stays as it is, and what only its estimate needs is freed."""
        self.frozen = True

    def keep_below(self, limit: float) -> None:
        """`scale`, which is d or a fixed rate, is at most `limit` from the next step on, for good."""
        self.limit = limit

    # -- output, state and the end

    @contextmanager
    def output_weights(self) -> Iterator[None]:
        """Inside the block the parameters are those to output, after it those to train on."""
        yield

    def snapshot(self) -> Any:
        """Parameters and the torch optimizer's state, copied to CPU memory."""
        weights = [p.detach() for p in self.parameters]
        return _on_cpu({"weights": weights, "optimizer": self.optimizer.state_dict()}, {})

    @torch.no_grad()
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Goes back to a snapshot of this run. The gradients are gone.

        What was stopped or frozen since stays so, and a limit stays.
        """
        # a copy, because torch takes the tensors of a state into use as they are
        self.optimizer.load_state_dict(deepcopy(snapshot["optimizer"]))
        for p, weight in zip(self.parameters, snapshot["weights"], strict=True):
            p.copy_(weight)
        self.keep_below(self.limit)

    def state(self) -> dict[str, Any]:
        """A snapshot, with what was stopped, frozen and limited on the way."""
        return self.snapshot() | {
            "stopped": sorted(self.stopped),
            "frozen": self.frozen,
            "limit": self.limit,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over a state of another process."""
        self.limit = state["limit"]
        self.restore(state)
        for part in state["stopped"]:
            self.stop(part)
        if state["frozen"]:
            self.freeze_d()

    def release(self) -> None:
        """The end: every parameter holds what is to be output, in a tensor of its own."""
        self.optimizer.zero_grad(set_to_none=True)

    def _group(self, part: str) -> dict[str, Any]:
        return self.optimizer.param_groups[list(self.speeds).index(part)]


def groups_of(parts: Mapping[str, Sequence[nn.Parameter]]) -> list[dict[str, Any]]:
    return [{"params": list(parameters)} for parameters in parts.values()]


def _on_cpu(value: Any, memory: dict[int, torch.UntypedStorage]) -> Any:
    """A copy of nested dicts, lists and tensors that shares nothing, with the tensors in CPU memory.

    Tensors that are views of one memory are so in the copy too: it is copied once, and not tensor by tensor.
    """
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        if storage.data_ptr() not in memory:
            memory[storage.data_ptr()] = storage.clone() if storage.device.type == "cpu" else storage.cpu()
        copy = torch.empty(0, dtype=value.dtype)
        return copy.set_(memory[storage.data_ptr()], value.storage_offset(), value.size(), value.stride())
    if isinstance(value, dict):
        return {key: _on_cpu(inner, memory) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(inner, memory) for inner in value)
    return value


Parts = Mapping[str, Sequence[nn.Parameter]]


def adam_settings(config: OptimizerConfig) -> dict[str, Any]:
    return dict(lr=config.learning_rate, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay)
