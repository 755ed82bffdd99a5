"""The peak of the memory that a process takes above what it has loaded."""

import ctypes
import gc
import threading
import time

import psutil
import torch

SECONDS_BETWEEN_LOOKS = 0.005


class PeakMemory:
    """The peak of memory since this was made.

    On a GPU it is torch's allocations; on a CPU resident memory, which a thread looks at.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        _give_back_freed_memory()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            _keep_peak_through_resets(self)
        self._process = psutil.Process()
        self.before = self._now()
        self._highest = self.before
        if not self.on_gpu:
            threading.Thread(target=self._look, daemon=True).start()

    def above(self) -> int:
        """The peak in bytes above what there was when this was made."""
        if self.on_gpu:
            self.look_once()
        return self._highest - self.before

    def look_once(self) -> None:
        self._highest = max(self._highest, torch.cuda.max_memory_allocated() if self.on_gpu else self._now())

    def _now(self) -> int:
        return torch.cuda.memory_allocated() if self.on_gpu else self._process.memory_info().rss

    def _look(self) -> None:
        while True:
            self.look_once()
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _keep_peak_through_resets(peak: PeakMemory) -> None:
    """Look at the peak before each reset: our trainer, for one, resets torch's count."""
    reset = torch.cuda.reset_peak_memory_stats

    def look_and_reset(*arguments) -> None:
        peak.look_once()
        reset(*arguments)

    torch.cuda.reset_peak_memory_stats = look_and_reset


def _give_back_freed_memory() -> None:
    """Have glibc return the freed pages that it holds.

    They would be counted in the baseline, and memory that is taken from them later would not be seen.
    """
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
