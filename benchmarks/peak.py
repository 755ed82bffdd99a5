"""The most memory that a process takes above what it has loaded."""

import ctypes
import gc
import threading
import time

import psutil
import torch

SECONDS_BETWEEN_LOOKS = 0.005


class PeakMemory:
    """Counts from its making on: the GPU's allocations, or on a CPU the resident memory, which a thread looks
    at.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        _give_back_freed_memory()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            _keep_peak_through_resets(self)
        self._process = psutil.Process()
        self.before = self._highest = self._now()
        if not self.on_gpu:
            threading.Thread(target=self._look, daemon=True).start()

    def above(self) -> int:
        """Bytes."""
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
    """A trainer that starts torch's count anew, as ours does, does not make what came before unseen."""
    reset = torch.cuda.reset_peak_memory_stats

    def look_and_reset(*arguments) -> None:
        peak.look_once()
        reset(*arguments)

    torch.cuda.reset_peak_memory_stats = look_and_reset


def _give_back_freed_memory() -> None:
    """glibc keeps freed pages, which would hide in the baseline what is taken afterwards."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
