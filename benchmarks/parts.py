"""How long each part of our training step takes, measured around the functions that the part calls."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from comfyui_dadapt_lora.comfy_host.network import HostNetwork
from comfyui_dadapt_lora.comfy_host.progress import Progress
from comfyui_dadapt_lora.trainer.optim.base import RunOptimizer
from comfyui_dadapt_lora.trainer.record.folder import RunFolder
from comfyui_dadapt_lora.trainer.run import output

NETWORK = "network"
GUARD = "burn guard"
OPTIMIZER = "optimizer"
RECORDS = "records"


class Parts:
    """Counts the seconds of each part."""

    def __init__(self, synchronize: Callable[[], Any]) -> None:
        self.synchronize = synchronize
        self._seconds: Counter[str] = Counter()

    def watch(self) -> None:
        """Start counting, in this process."""
        for name in ("encode", "predict"):
            self._time(HostNetwork, name, lambda: NETWORK if torch.is_grad_enabled() else GUARD)
        self._time(torch.Tensor, "backward", lambda: NETWORK)
        build = output.build_optimizer
        output.build_optimizer = lambda *settings: self._timed_optimizer(build(*settings))
        self._time(RunFolder, "hear", lambda: RECORDS)
        self._time(Progress, "hear", lambda: RECORDS)

    def _timed_optimizer(self, optimizer: RunOptimizer) -> RunOptimizer:
        for name in ("step", "zero_grad"):
            self._time(optimizer, name, lambda: OPTIMIZER)
        return optimizer

    def taken(self) -> dict[str, float]:
        """The seconds of each part since the last call."""
        seconds = dict(self._seconds)
        self._seconds.clear()
        return seconds

    def _time(self, owner: Any, name: str, part: Callable[[], str]) -> None:
        function = getattr(owner, name)

        def timed(*arguments, **named):
            of = part()
            self.synchronize()
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.synchronize()
                self._seconds[of] += time.perf_counter() - start

        setattr(owner, name, timed)
