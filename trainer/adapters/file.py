"""LoRA files: the names and metadata of kohya's sd-scripts, written so that a file is whole or not there."""

import errno
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..atomic_file import write_bytes
from ..errors import LoraFileError
from ..precision import DTYPES
from .lora import LoraAdapter


def lora_tensors(adapters: Sequence[LoraAdapter]) -> dict[str, Tensor]:
    """NAME.lora_down.weight, NAME.lora_up.weight and NAME.alpha of each adapter, copied to the CPU."""
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
    """The tensors in "fp16", "bf16" or "fp32".

    alpha stays in fp32, because bf16 has no 301. Raises `LoraFileError` for a value that does not fit or is
    not finite.
    """
    dtypes = {key: torch.float32 if key.endswith(".alpha") else DTYPES[dtype] for key in tensors}
    out = {key: tensor.to(dtypes[key]).contiguous() for key, tensor in tensors.items()}
    bad = [key for key, tensor in out.items() if not tensor.isfinite().all()]
    if bad:
        raise LoraFileError(
            f"{len(bad)} of {len(out)} tensors hold values that {dtype} cannot hold, the first is {bad[0]}."
            " Nothing was written. Choose fp32; if that fails too, the training diverged: train again with a"
            " lower learning rate."
        )
    return out


def write_lora(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a .safetensors file that appears whole under its name or not at all. Raises `OSError`.

    The hashes of the weights are added to the metadata.
    """
    write_bytes(path, save(dict(tensors), {**metadata, **weight_hashes(tensors)}))


def not_written(name: str, tensors: Mapping[str, Tensor], error: OSError) -> LoraFileError:
    """The error of a save that the disk refused, with what to do.

    `name` is the file's below the output folder.
    """
    megabytes = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    room = f"make room there for {megabytes:.0f} MB or more" if megabytes >= 1 else "make room there"
    allow = "allow ComfyUI to write there"
    remedy = {
        **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), room),
        **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), allow),
    }.get(error.errno, f"{room}, or {allow}")
    return LoraFileError(
        f"{name} could not be written to ComfyUI's output folder: {error.strerror or 'the disk refused'}."
        f" Choose another filename, or {remedy}. Then queue again: unless another workflow ran in between,"
        " the LoRA is saved without training again."
    )


def weight_hashes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The hashes by which other tools recognize a LoRA.

    They are SHA-256 over the file's tensor part, without its metadata.
    """
    data = save(dict(tensors))
    digest = hashlib.sha256(memoryview(data)[_header_bytes(data[:8]) :]).hexdigest()
    return {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """What `hash_of_weights_in` gives for a file of these tensors."""
    return weight_hashes(tensors)["sshs_model_hash"]


def hash_of_weights_in(path: Path) -> str:
    """The SHA-256 of a file's tensor part, in hexadecimal digits. Raises `OSError`.

    Of a file that is no .safetensors file it is some hash that no LoRA has.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(min(_header_bytes(file.read(8)), path.stat().st_size))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _header_bytes(start: bytes) -> int:
    """Where the tensors begin in a .safetensors file that starts with these 8 bytes."""
    return 8 + int.from_bytes(start, "little")
