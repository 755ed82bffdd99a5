"""Expands emoji-sd15-int8.safetensors (38 MB) into an ordinary SD 1.5-family checkpoint in fp16 (303 MB).

The result is the same on every machine. It has the fp16 weights, from int8 values and scales; the token
table, random from a seed; and the text layers 1 to 11, which change nothing until a LoRA changes them.
"""

import hashlib
import json
from pathlib import Path

from devhost.files import whole_file

PACKED = Path(__file__).with_name("emoji-sd15-int8.safetensors")
NAME = "emoji-sd15.safetensors"
SOURCE_KEY = "expanded_from"  # in the file's metadata: the hash of what it was made from

TEXT_MODEL = "cond_stage_model.transformer.text_model."
TOKENS = 49408
WIDTH = 768
TOKEN_SEED = 1234
TOKEN_SCALE = 0.5
LAYERS = 12


def expand(target: Path, packed: Path = PACKED) -> bool:
    """Writes the checkpoint to `target`, whole or not at all. Returns False when it was there already."""
    source = _fingerprint(packed)
    if read_metadata(target).get(SOURCE_KEY) == source:
        return False
    from safetensors.torch import load_file, save_file

    checkpoint = unpack_weights(load_file(packed))
    checkpoint[f"{TEXT_MODEL}embeddings.token_embedding.weight"] = token_table()
    checkpoint |= identity_layers(checkpoint)
    with whole_file(target) as partial:
        save_file(
            {name: tensor.contiguous() for name, tensor in checkpoint.items()}, partial, {SOURCE_KEY: source}
        )
    return True


def unpack_weights(packed: dict) -> dict:
    """`NAME.int8` and `NAME.scale` (one value per output channel, the first axis) become NAME in fp16."""
    weights = {}
    for name, tensor in packed.items():
        if name.endswith(".int8"):
            plain = name.removesuffix(".int8")
            scale = packed[f"{plain}.scale"].view(-1, *[1] * (tensor.dim() - 1))
            weights[plain] = (tensor.float() * scale).half()
        elif not name.endswith(".scale"):
            weights[name] = tensor
    return weights


def token_table():
    """The embeddings of all tokens, [tokens, width] in fp16.

    They come from NumPy's RandomState, which is promised to stay the same for ever; torch's generator is not.
    """
    import numpy as np
    import torch

    table = (
        np.random.RandomState(TOKEN_SEED).standard_normal((TOKENS, WIDTH)).astype(np.float32) * TOKEN_SCALE
    )
    return torch.from_numpy(table).half()


def identity_layers(checkpoint: dict) -> dict:
    """Text layers 1 to 11 in the shape of layer 0, each of which adds zero to the residual stream."""
    first = f"{TEXT_MODEL}encoder.layers.0."
    shapes = {
        name.removeprefix(first): tensor.shape
        for name, tensor in checkpoint.items()
        if name.startswith(first)
    }
    return {
        f"{TEXT_MODEL}encoder.layers.{layer}.{name}": _identity_weight(name, shape, layer)
        for layer in range(1, LAYERS)
        for name, shape in shapes.items()
    }


def _identity_weight(name: str, shape: tuple[int, ...], layer: int):
    return _identity_values(name, shape, seed=layer * 1000 + len(name)).half()


def _identity_values(name: str, shape: tuple[int, ...], seed: int):
    import torch

    if name.startswith("layer_norm"):
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    if name.endswith("bias") or "out_proj" in name or "fc2" in name:
        return torch.zeros(shape)
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5
    return uniform * (2 * (6 / sum(shape)) ** 0.5)  # Xavier: plus and minus sqrt(6 / (in + out))


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; {} where there is no such file."""
    if not file.is_file():
        return {}
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return header.get("__metadata__", {})


def _fingerprint(packed: Path) -> str:
    """A hash that changes with the packed file and with this module."""
    return hashlib.sha256(packed.read_bytes() + Path(__file__).read_bytes()).hexdigest()
