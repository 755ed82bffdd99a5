"""Save LoRA knows whether what it saved is still there."""

import os

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.file import weights_hash, write_lora
from comfyui_dadapt_lora.trainer.adapters.saved_files import SavedFiles

SETTINGS = ("my_lora", "fp16", False)
ONE, OTHER = {"a.lora_up.weight": torch.zeros(3)}, {"a.lora_up.weight": torch.ones(3)}


@pytest.fixture
def files():
    return SavedFiles()


def save(files, path, tensors, settings=SETTINGS) -> None:
    write_lora(path, tensors, {})
    files.remember(path, settings, weights_hash(tensors))


def test_saving_does_not_change_the_fingerprint(files, tmp_path):
    assert files.times_lost(SETTINGS) == 0
    save(files, tmp_path / "my_lora.safetensors", ONE)
    assert files.times_lost(SETTINGS) == files.times_lost(SETTINGS) == 0


def test_a_file_that_is_gone_changes_it_once(files, tmp_path):
    path = tmp_path / "my_lora.safetensors"
    save(files, path, ONE)
    path.unlink()
    assert files.find(SETTINGS, weights_hash(ONE)) is None
    assert files.times_lost(SETTINGS) == files.times_lost(SETTINGS) == 1
    save(files, path, ONE)
    assert files.times_lost(SETTINGS) == 1
    path.unlink()
    assert files.times_lost(SETTINGS) == 2


def test_a_file_with_other_weights_is_lost(files, tmp_path):
    path = tmp_path / "my_lora.safetensors"
    save(files, path, ONE)
    write_lora(path, OTHER, {})
    assert files.times_lost(SETTINGS) == 1
    path.write_bytes(b"")
    assert files.find(SETTINGS, weights_hash(ONE)) is None


def test_a_new_date_or_new_metadata_is_no_loss(files, tmp_path):
    path = tmp_path / "my_lora.safetensors"
    save(files, path, ONE)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert files.times_lost(SETTINGS) == 0
    write_lora(path, ONE, {"modelspec.title": "sunflowers"})
    assert files.times_lost(SETTINGS) == 0
    assert files.find(SETTINGS, weights_hash(ONE)) == path


def test_a_file_that_another_save_replaced_is_no_loss(files, tmp_path):
    """Two nodes that overwrite one name would save again at every queue."""
    path, other = tmp_path / "my_lora.safetensors", ("my_lora", "fp32", True)
    save(files, path, ONE)
    save(files, path, OTHER, other)
    assert files.times_lost(SETTINGS) == files.times_lost(other) == 0
    path.unlink()
    assert (files.times_lost(SETTINGS), files.times_lost(other)) == (0, 1)


def test_a_drive_that_comes_back_has_the_file_still(files, tmp_path):
    """It is not saved a second time with a number."""
    path = tmp_path / "my_lora.safetensors"
    save(files, path, ONE)
    path.rename(tmp_path / "away")
    assert files.times_lost(SETTINGS) == 1
    (tmp_path / "away").rename(path)
    assert files.times_lost(SETTINGS) == 1
    assert files.find(SETTINGS, weights_hash(ONE)) == path


def test_a_name_that_is_not_known_yet_counts_every_name(files, tmp_path):
    """A filename that comes from a link is None in a fingerprint."""
    path = tmp_path / "my_lora.safetensors"
    save(files, path, ONE)
    path.unlink()
    assert files.times_lost((None, "fp16", False)) == 1
    assert files.times_lost((None, "fp32", False)) == 0


def test_only_the_same_lora_with_the_same_settings_is_found(files, tmp_path):
    path = tmp_path / "my_lora.safetensors"
    save(files, path, ONE)
    assert files.find(SETTINGS, weights_hash(ONE)) == path
    assert files.find(SETTINGS, weights_hash(OTHER)) is None
    assert files.find(("other", "fp16", False), weights_hash(ONE)) is None
