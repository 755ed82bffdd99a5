"""A LoRA file lies below output/loras, also where links lead elsewhere, and asking where makes nothing."""

import os

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters import file_place
from comfyui_dadapt_lora.trainer.adapters.file import write_lora
from comfyui_dadapt_lora.trainer.adapters.file_place import place_for
from comfyui_dadapt_lora.trainer.errors import SettingError


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def loras(output):
    folder = output / "loras"
    folder.mkdir()
    return folder


def link(place, target) -> None:
    place.symlink_to(target, target_is_directory=True)


def test_a_number_is_added_to_a_name_that_is_taken(output, loras):
    (loras / "a.safetensors").touch()
    (loras / "a_2.safetensors").symlink_to(loras / "gone")
    assert place_for(output, "a", overwrite=False) == loras / "a_3.safetensors"
    assert place_for(output, "a", overwrite=True) == loras / "a.safetensors"


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_link_that_leads_out_is_refused(tmp_path, output, loras, overwrite):
    (tmp_path / "elsewhere").mkdir()
    link(loras / "out", tmp_path / "elsewhere")
    with pytest.raises(SettingError, match="a link that leads out of ComfyUI's output/loras"):
        place_for(output, "out/deeper/x", overwrite)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_link_within_the_lora_folder_is_followed(output, loras):
    (loras / "real").mkdir()
    link(loras / "styles", loras / "real")
    write_lora(place_for(output, "styles/x", overwrite=False), {"a": torch.zeros(1)}, {})
    assert (loras / "real" / "x.safetensors").is_file()


def test_the_lora_folder_may_be_a_link_to_another_drive(tmp_path, output):
    (tmp_path / "drive").mkdir()
    link(output / "loras", tmp_path / "drive")
    assert place_for(output, "styles/x", overwrite=False) == output / "loras" / "styles" / "x.safetensors"


@pytest.mark.parametrize("filename", ["x", "styles/x"])
def test_a_drive_that_is_not_there_is_named(tmp_path, output, filename):
    link(output / "loras", tmp_path / "drive")
    with pytest.raises(SettingError, match="output/loras is a link to a place that is not there"):
        place_for(output, filename, overwrite=False)


def test_links_in_a_circle_are_refused(output, loras):
    link(loras / "a", loras / "b")
    link(loras / "b", loras / "a")
    with pytest.raises(SettingError, match="output/loras/a is a link to a place that is not there"):
        place_for(output, "a/x", overwrite=False)


def test_a_file_in_place_of_a_folder_is_refused(output, loras):
    (loras / "styles").touch()
    with pytest.raises(SettingError, match="output/loras/styles is a file"):
        place_for(output, "styles/x", overwrite=False)


def test_a_folder_cannot_be_overwritten(output, loras):
    (loras / "x.safetensors").mkdir()
    with pytest.raises(SettingError, match="there is a folder of that name"):
        place_for(output, "x", overwrite=True)
    assert place_for(output, "x", overwrite=False).name == "x_2.safetensors"


def test_a_path_that_is_too_long_for_the_system_is_refused(output, monkeypatch):
    """As on Windows, where all folders and the name together have 260 characters."""
    monkeypatch.setattr(file_place, "LONGEST_PATH", len(os.fsencode(output)) + 30)
    assert place_for(output, "short", overwrite=False)
    with pytest.raises(SettingError, match="longer than this system takes"):
        place_for(output, "not_so_short", overwrite=False)


@pytest.mark.parametrize("length", range(230, 260))
def test_a_name_of_any_length_is_refused_or_can_be_written(output, length):
    try:
        path = place_for(output, "x" * length, overwrite=False)
    except SettingError:
        assert length >= 240
        return
    write_lora(path, {"a": torch.zeros(1)}, {})
    assert path.name == "x" * length + ".safetensors"
    write_lora(place_for(output, "x" * length, overwrite=False), {"a": torch.zeros(1)}, {})
    assert len(list(path.parent.iterdir())) == 2
