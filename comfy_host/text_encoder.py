"""ComfyUI's CLIP as a differentiable function from captions to text embeddings."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import comfy.model_management
import torch
from torch import Tensor, nn

from .attention import for_text_encoder
from .prompts import as_plain_prompt


class HostTextEncoder:
    """Encodes captions with a CLIP as ComfyUI's CLIPTextEncode would.

    That is: in chunks of 75 tokens, and with what CLIP Set Last Layer asks for. Where it does not train,
    captions are encoded once, before the run, by `remember`.
    """

    def __init__(self, clip, trains: bool) -> None:
        self.clip = clip
        self.trains = trains
        self._tokens: dict[str, dict[str, list]] = {}
        self._remembered: dict[str, Tensor] = {}

    @property
    def module(self) -> nn.Module:
        return self.clip.cond_stage_model

    @property
    def device(self) -> torch.device:
        """Where it computes, after it was loaded.

        That is where its token embedding is, which ComfyUI may leave behind when memory is short.
        """
        return next(
            module.weight.device for module in self.module.modules() if isinstance(module, nn.Embedding)
        )

    @property
    def clip_skip(self) -> int | None:
        """What CLIP Set Last Layer asks for, as a positive number: 2 stops at the last but one layer."""
        return None if self.clip.layer_idx is None else -self.clip.layer_idx

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Sets what ComfyUI sets before it encodes, and lets gradients through its in-place additions.

        Embeddings stay on the device. ComfyUI would bring them to CPU memory, and a step would wait for them
        there and back.
        """
        self.module.reset_clip_options()
        if self.clip.layer_idx is not None:
            self.module.set_clip_options({"layer": self.clip.layer_idx})
        norms = [m for m in self.module.modules() if isinstance(m, nn.LayerNorm)]
        # ComfyUI's layers write `x += attention(norm(x))`, over the input that the norm's backward needs
        handles = [norm.register_forward_pre_hook(_clone_input) for norm in norms] if self.trains else []
        management = comfy.model_management
        intermediate_device = management.intermediate_device
        management.intermediate_device = lambda: self.device
        try:
            with for_text_encoder(self.module.modules()):
                yield
        finally:
            for handle in handles:
                handle.remove()
            self.module.reset_clip_options()
            management.intermediate_device = intermediate_device

    @torch.no_grad()
    def remember(
        self, captions: Iterable[str], device: torch.device, on_caption: Callable[[int], None]
    ) -> None:
        """Encodes each caption, for `encode` to return on `device`.

        Calls `on_caption` after each, with their number so far.
        """
        for caption in captions:
            if caption not in self._remembered:
                self._remembered[caption] = self._encode([caption])[0].to(device)
                on_caption(len(self._remembered))

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Embeddings [batch, tokens, channels].

        Of captions with different numbers of chunks, the shorter are repeated.
        """
        if self.trains:
            return _same_length(self._encode(captions))
        return _same_length([self._remembered[caption] for caption in captions])

    def _encode(self, captions: Sequence[str]) -> list[Tensor]:
        """Embeddings [tokens, channels] of each caption, all chunks of all captions in one pass."""
        tokens = [self._tokens_of(caption) for caption in captions]
        names = tokens[0].keys()
        joined = {name: [chunk for caption in tokens for chunk in caption[name]] for name in names}
        embedding = self.module.encode_token_weights(joined)[0]  # [1, all tokens, channels]
        chunks = [len(next(iter(caption.values()))) for caption in tokens]
        width = embedding.shape[1] // sum(chunks)
        return list(embedding[0].split([width * count for count in chunks]))

    def _tokens_of(self, caption: str) -> dict[str, list]:
        if caption not in self._tokens:
            self._tokens[caption] = self.clip.tokenize(as_plain_prompt(caption))
        return self._tokens[caption]


def _clone_input(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].clone(), *inputs[1:])


def _same_length(embeddings: Sequence[Tensor]) -> Tensor:
    """Stacks embeddings [tokens, channels] of different lengths.

    Each is repeated up to their least common multiple, as ComfyUI does it.
    """
    length = math.lcm(*(embedding.shape[0] for embedding in embeddings))
    return torch.stack([embedding.repeat(length // embedding.shape[0], 1) for embedding in embeddings])
