"""Captions in ComfyUI's prompt syntax."""

from collections.abc import Iterator
from typing import Any


def as_plain_prompt(caption: str, has_weights: bool = True) -> str:
    """The caption written so that ComfyUI's prompt syntax takes it literally.

    As it is, `(tag)` would be weighed and `embedding:x` read from disk. A parenthesis that is escaped
    already, as tag files have it, is the same as one that is not.

    has_weights: of the tokenizer; one that knows none would read the escapes as text.
    """
    literal = caption.replace(r"\(", "(").replace(r"\)", ")").replace("embedding:", "embedding :")
    return literal.replace("(", r"\(").replace(")", r"\)") if has_weights else literal


def weighs_words(clip) -> bool:
    """Whether the tokenizer of a CLIP takes (word:1.5) as a word with a weight. Those of language models do
    not.
    """
    return any(weight != 1.0 for weight in _weights(clip.tokenize("(word:1.5)")))


def _weights(tokens: Any) -> Iterator[float]:
    """The weights in what `clip.tokenize` returns: of each encoder a list of chunks of (token, weight)."""
    for chunks in tokens.values():
        for chunk in chunks if isinstance(chunks, list) else ():
            yield from (pair[1] for pair in chunk if isinstance(pair, tuple))
