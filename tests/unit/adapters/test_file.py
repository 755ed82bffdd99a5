"""LoRA files: names, values, metadata, and being whole or not there."""

import errno
import hashlib
import json

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.file import (
    cast,
    hash_of_weights_in,
    layer_names,
    lora_tensors,
    not_written,
    weights_hash,
    write_lora,
)
from comfyui_dadapt_lora.trainer.adapters.lora import new_adapter
from comfyui_dadapt_lora.trainer.errors import LoraFileError
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn


def adapters():
    generator = torch.Generator().manual_seed(0)
    made = [
        new_adapter("lora_unet_proj_in", "unet", nn.Conv2d(6, 5, 1), 3, generator, torch.device("cpu")),
        new_adapter("lora_te_q", "text_encoder", nn.Linear(4, 7), 3, generator, torch.device("cpu")),
    ]
    for adapter in made:
        adapter.up.data.normal_(generator=generator)
    return made


def test_names_and_shapes_are_those_of_sd_scripts():
    """Files mean the same in kohya's sd-scripts and everywhere that reads its files."""
    shapes = {name: tuple(tensor.shape) for name, tensor in lora_tensors(adapters()).items()}
    assert shapes == {
        "lora_unet_proj_in.lora_down.weight": (3, 6, 1, 1),
        "lora_unet_proj_in.lora_up.weight": (5, 3, 1, 1),
        "lora_unet_proj_in.alpha": (),
        "lora_te_q.lora_down.weight": (3, 4),
        "lora_te_q.lora_up.weight": (7, 3),
        "lora_te_q.alpha": (),
    }
    assert lora_tensors(adapters())["lora_te_q.alpha"] == 3
    assert layer_names(lora_tensors(adapters())) == ["lora_unet_proj_in", "lora_te_q"]


def test_tensors_do_not_share_memory_with_the_training():
    made = adapters()
    tensors = lora_tensors(made)
    made[1].up.data.zero_()
    assert tensors["lora_te_q.lora_up.weight"].abs().sum() > 0


@pytest.mark.parametrize("dtype, tolerance", [("fp32", 0), ("fp16", 1e-3), ("bf16", 1e-2)])
def test_a_file_gives_back_what_was_written(tmp_path, dtype, tolerance):
    tensors = lora_tensors(adapters())
    path = tmp_path / "styles" / "a.safetensors"
    write_lora(path, cast(tensors, dtype), {"ss_network_dim": "3"})
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.allclose(loaded[name].float(), tensor, atol=0, rtol=tolerance), name


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_alpha_is_dim_in_every_dtype(dtype):
    made = new_adapter(
        "lora_unet_a", "unet", nn.Linear(400, 400), 301, torch.Generator(), torch.device("cpu")
    )
    assert cast(lora_tensors([made]), dtype)["lora_unet_a.alpha"] == 301


def test_metadata_is_in_the_file_with_the_hash_of_its_weights(tmp_path):
    path = tmp_path / "a.safetensors"
    write_lora(path, cast(lora_tensors(adapters()), "fp16"), {"ss_network_dim": "3"})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == "3"
    data = path.read_bytes()
    weights = data[8 + int.from_bytes(data[:8], "little") :]
    assert metadata["sshs_model_hash"] == hashlib.sha256(weights).hexdigest()
    assert json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # a plain safetensors header


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_that_the_dtype_cannot_hold_are_refused_by_name(value):
    tensors = lora_tensors(adapters())
    tensors["lora_te_q.lora_up.weight"][0, 0] = value
    with pytest.raises(LoraFileError, match=r"lora_te_q\.lora_up\.weight"):
        cast(tensors, "fp16")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    """The disk is full at the last moment: the real thing cannot be had, `os.fsync` raises in its place."""
    path = tmp_path / "a.safetensors"
    write_lora(path, cast(lora_tensors(adapters()), "fp16"), {})
    old = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_lora(path, cast(lora_tensors(adapters()), "fp32"), {})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


ROOM, ALLOW = "make room there for 2 MB or more", "allow ComfyUI to write there"


@pytest.mark.parametrize(
    "number, reason, remedy",
    [
        (errno.ENOSPC, "No space left on device", ROOM),
        (errno.EROFS, "Read-only file system", ALLOW),
        (errno.EACCES, "Permission denied", ALLOW),
        (errno.EIO, "Input/output error", f"{ROOM}, or {ALLOW}"),
    ],
)
def test_a_save_that_the_disk_refused_names_the_file_and_what_to_do(number, reason, remedy):
    error = OSError(number, reason, "/home/somebody/ComfyUI/output/loras/a.safetensors")
    told = str(not_written("loras/a.safetensors", {"a": torch.zeros(500_000)}, error))
    assert told.startswith(f"loras/a.safetensors could not be written to ComfyUI's output folder: {reason}.")
    assert f"Choose another filename, or {remedy}. Then queue again" in told
    assert "saved without training again" in told
    assert "somebody" not in told


def test_the_hash_of_a_file_is_that_of_its_weights_alone(tmp_path):
    tensors = cast(lora_tensors(adapters()), "fp16")
    for name, metadata in (("a", {}), ("b", {"ss_network_dim": "3"})):
        write_lora(tmp_path / name, tensors, metadata)
        assert hash_of_weights_in(tmp_path / name) == weights_hash(tensors)
    for broken in (b"", b"short", b"\xff" * 8, b"\xff" * 100):
        (tmp_path / "a").write_bytes(broken)
        assert hash_of_weights_in(tmp_path / "a") != weights_hash(tensors)
