"""Tokenizers of single letters, for the text encoders whose real ones lie in their checkpoints.

Start, end and padding have the real numbers, because ComfyUI's encoders look for them.
"""

import base64
import io
import json
from string import ascii_lowercase

import sentencepiece
import torch
from torch import Tensor

LETTERS = " ".join(ascii_lowercase)


def letters_of_t5() -> Tensor:
    """For UMT5 and mT5: what `spiece_model` is in their files."""
    return _sentencepiece(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)


def letters_of_gemma() -> Tensor:
    return _sentencepiece(pad_id=0, eos_id=1, bos_id=2, unk_id=3)


def bytes_of_mistral() -> Tensor:
    """What `tekken_model` is in the file of Flux2's encoder."""
    named = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<unused_{n}>" for n in range(5, 11)), "<pad>"]
    vocabulary = {
        "config": {"default_vocab_size": len(named) + 256},
        "special_tokens": [{"rank": rank, "token_str": token} for rank, token in enumerate(named)],
        "vocab": [
            {"rank": n, "token_bytes": base64.b64encode(bytes([n])).decode("ascii")} for n in range(256)
        ],
    }
    return _as_tensor(json.dumps(vocabulary).encode())


def _sentencepiece(**ids: int) -> Tensor:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([LETTERS]),
        model_writer=model,
        model_type="char",
        vocab_size=len(ids) + len(ascii_lowercase) + 1,  # the letters and the space
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    return _as_tensor(model.getvalue())


def _as_tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
