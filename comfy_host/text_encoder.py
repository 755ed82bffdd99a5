"""ComfyUI's CLIP, which holds one text encoder or several, as a differentiable function of captions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from .encoder import Encoder
from .prompts import as_plain_prompt, weighs_words

# What the text encoders make of one caption, as ComfyUI's conditionings have it: "cross_attn" [1, tokens,
# channels], "pooled_output" [1, channels] or None, and what else these encoders give.
Text = dict[str, Any]


class HostTextEncoder:
    """Encodes captions with a CLIP as ComfyUI's CLIPTextEncode would, one caption at a time.

    That honours CLIP Set Last Layer. Where no encoder trains, captions are encoded once, before the run, by
    `remember`.
    """

    def __init__(self, clip, trained: Iterable[str]) -> None:
        """trained: names of the encoders that train, as in `encoder_names`."""
        self.clip = clip
        self.trained = tuple(trained)
        self._has_weights = weighs_words(clip)
        self._tokens: dict[str, dict[str, list]] = {}
        self._remembered: dict[str, Text] = {}
        self._encoders: list[Encoder] = []  # while ready

    @property
    def trains(self) -> bool:
        return bool(self.trained)

    @property
    def module(self) -> nn.Module:
        return self.clip.cond_stage_model

    def encoder(self, name: str) -> nn.Module:
        """One of the text encoders."""
        return getattr(self.module, name)

    @property
    def trained_encoders(self) -> list[nn.Module]:
        return [self.encoder(name) for name in self.trained]

    def device_of(self, encoder: nn.Module) -> torch.device:
        """Where it computes, after it was loaded.

        That is where its token embedding is, which ComfyUI may leave behind when memory is short.
        """
        return next(module.weight.device for module in encoder.modules() if isinstance(module, nn.Embedding))

    @property
    def clip_skip(self) -> int | None:
        """What CLIP Set Last Layer asks for, as a positive number: 2 stops at the last but one layer."""
        return None if self.clip.layer_idx is None else -self.clip.layer_idx

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Sets what ComfyUI sets before it encodes.

        Embeddings stay on the device. ComfyUI would bring them to CPU memory, and a step would wait for them
        there and back.
        """
        self.module.reset_clip_options()
        if self.clip.layer_idx is not None:
            self.module.set_clip_options({"layer": self.clip.layer_idx})
        management = comfy.model_management
        intermediate_device = management.intermediate_device
        device = self.device_of(self.module)
        management.intermediate_device = lambda: device
        try:
            with ExitStack() as stack:
                if self.trains:
                    self._encoders = [
                        Encoder(name, self.encoder(name), name in self.trained)
                        for name in encoder_names(self.clip)
                    ]
                    for encoder in self._encoders:
                        stack.enter_context(encoder.replaced())
                yield
        finally:
            self._encoders = []
            self.module.reset_clip_options()
            management.intermediate_device = intermediate_device

    @torch.no_grad()
    def remember(self, captions: Iterable[str], on_caption: Callable[[int], None]) -> None:
        """Encodes each caption, for `encode` to return.

        They stay in CPU memory: those of large encoders would take room on the GPU that training needs.
        Calls `on_caption` after each, with their number so far.
        """
        for caption in captions:
            if caption not in self._remembered:
                self._remembered[caption] = _in_cpu_memory(self._encode([caption])[0])
                on_caption(len(self._remembered))

    def encode(self, captions: Sequence[str]) -> list[Text]:
        """What the encoders make of each caption, with a gradient where one trains."""
        if self.trains:
            return self._encode(captions)
        return [self._remembered[caption] for caption in captions]

    def _encode(self, captions: Sequence[str]) -> list[Text]:
        tokens = [self._tokens_of(caption) for caption in captions]
        for encoder in self._encoders:
            encoder.expect(captions, tokens)
        return [_as_text(self.module.encode_token_weights(one)) for one in tokens]

    def _tokens_of(self, caption: str) -> dict[str, list]:
        if caption not in self._tokens:
            self._tokens[caption] = self.clip.tokenize(as_plain_prompt(caption, self._has_weights))
        return self._tokens[caption]


def encoder_names(clip) -> list[str]:
    """The text encoders of a CLIP as ComfyUI names them: clip_l, clip_g, t5xxl, gemma2_2b, ..."""
    return [
        name
        for name, child in clip.cond_stage_model.named_children()
        if hasattr(child, "encode_token_weights") and any(True for _ in child.parameters())
    ]


def _as_text(encoded: tuple) -> Text:
    """From what ComfyUI's `encode_token_weights` gives: embeddings, pooled output, and a dict of the rest."""
    embeddings, pooled, *rest = encoded
    return {"cross_attn": embeddings, "pooled_output": pooled, **(rest[0] if rest else {})}


def _in_cpu_memory(text: Text) -> Text:
    return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in text.items()}
