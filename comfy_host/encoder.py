"""One text encoder of ComfyUI's several: how it is asked while training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Encoder:
    """Stands before one encoder while its CLIP trains.

    ComfyUI encodes one caption per call. An encoder that trains and whose chunks of tokens all have one
    length, as CLIP's do, computes those of a whole batch at once, and ComfyUI's code finds them ready. An
    encoder that does not train computes each caption once in the run.
    """

    def __init__(self, name: str, module: nn.Module, trains: bool) -> None:
        self.module = module
        self.trains = trains
        self._key = name.removeprefix("clip_")  # ComfyUI's tokenizers name clip_l's tokens "l"
        self._forward = module.encode_token_weights
        self._ready: list[tuple] = []  # of the captions that are expected, in reverse
        self._expected: list[str] = []  # the same captions
        self._remembered: dict[str, tuple] = {}

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """ComfyUI asks this object in place of the encoder inside the block."""
        self.module.encode_token_weights = self._encode_token_weights
        try:
            yield
        finally:
            del self.module.encode_token_weights

    def expect(self, captions: Sequence[str], tokens: Sequence[Mapping[str, Any]]) -> None:
        """These captions are asked for next, in this order."""
        self._expected = list(reversed(captions))
        self._ready = []
        chunks = [one.get(self._key) for one in tokens]
        if self.trains and len(chunks) > 1 and _have_one_length(chunks):
            self._ready = list(reversed(self._together(chunks)))

    def _encode_token_weights(self, token_weight_pairs: list) -> tuple:
        caption = self._expected.pop()
        if self._ready:
            return self._ready.pop()
        if self.trains:
            return self._forward(token_weight_pairs)
        if caption not in self._remembered:
            with torch.no_grad():
                self._remembered[caption] = self._forward(token_weight_pairs)
        return self._remembered[caption]

    def _together(self, chunks: Sequence[list]) -> list[tuple]:
        """What ComfyUI's `encode_token_weights` gives for the chunks of each caption, in one pass.

        A caption is a plain prompt, all of whose weights are 1.
        """
        outputs, pooled, *rest = self.module.encode(
            [[pair[0] for pair in chunk] for of_one in chunks for chunk in of_one]
        )
        encoded, start = [], 0
        for of_one in chunks:
            own = slice(start, start + len(of_one))
            first_pooled = None if pooled is None else pooled[start : start + 1]
            extra = {
                name: value[own].flatten()[None] if name == "attention_mask" else value
                for name, value in (rest[0] if rest else {}).items()
            }
            encoded.append((outputs[own].flatten(0, 1)[None], first_pooled, *([extra] if extra else [])))
            start = own.stop
        return encoded


def _have_one_length(chunks: Sequence[list | None]) -> bool:
    """Whether all chunks of all captions are lists of equally many (token, weight) pairs."""
    lengths = {len(chunk) for of_one in chunks for chunk in of_one or [()]}
    return len(lengths) == 1 and 0 not in lengths
