"""LoRA files: the established trainer's names and metadata, written so that a file is whole or not there at
all.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..errors import LoraFileError
from ..precision import DTYPES
from .lora import LoraAdapter


def lora_tensors(adapters: Sequence[LoraAdapter]) -> dict[str, Tensor]:
    """NAME.lora_down.weight, NAME.lora_up.weight and NAME.alpha of each adapter, on the CPU, in tensors of
    their own.
    """
    tensors = {}
    for adapter in adapters:
        for kind, weight in (("lora_down", adapter.down), ("lora_up", adapter.up)):
            tensors[f"{adapter.name}.{kind}.weight"] = weight.detach().to("cpu", copy=True)
        tensors[f"{adapter.name}.alpha"] = torch.tensor(float(adapter.dim))
    return tensors


def layer_names(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the adapted layers, in order."""
    return [key.removesuffix(".lora_down.weight") for key in tensors if key.endswith(".lora_down.weight")]


def cast(tensors: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """The tensors in "fp16", "bf16" or "fp32". Raises `LoraFileError` for a value that does not fit or is not
    finite.

    alpha stays as it is: bf16 has no 301.
    """
    kept = {key: torch.float32 if key.endswith(".alpha") else DTYPES[dtype] for key in tensors}
    out = {key: tensor.to(kept[key]).contiguous() for key, tensor in tensors.items()}
    bad = [key for key, tensor in out.items() if not tensor.isfinite().all()]
    if bad:
        raise LoraFileError(
            f"{len(bad)} of {len(out)} tensors hold values that {dtype} cannot hold, the first is {bad[0]}."
            " Nothing was written. Choose fp32; if that fails too, the training diverged: train again with a"
            " lower learning rate."
        )
    return out


def write_lora(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a .safetensors file that appears whole under its name or not at all; adds the hashes of its
    weights to the metadata.
    """
    data = save(dict(tensors), {**metadata, **weight_hashes(tensors)})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def weight_hashes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The hashes by which other tools recognise a LoRA:

    SHA-256 over the file's tensor part, with metadata left out.
    """
    data = save(dict(tensors))
    header = 8 + int.from_bytes(data[:8], "little")
    digest = hashlib.sha256(data[header:]).hexdigest()
    return {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}
