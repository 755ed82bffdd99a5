"""Run folders: their names, what is told of them, and where none can be made."""

import os
import time

import pytest
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.record.run_folders import describe_runs, make_run_folder


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def runs(output):
    return output / "loras" / "dadapt_runs"


def test_runs_are_numbered_per_data_set(output):
    made = [make_run_folder(output, name).name for name in ("few", "few", "styles/few", "few")]
    assert made == ["few_0001", "few_0002", "styles_few_0001", "few_0003"]
    (runs(output) / "few_0001").rmdir()
    assert make_run_folder(output, "few").name == "few_0004"


def test_there_can_be_more_than_9999_runs(output):
    (runs(output) / "few_9999").mkdir(parents=True)
    assert make_run_folder(output, "few").name == "few_10000"


@pytest.mark.parametrize("dataset", ["/".join(["x" * 100] * 3), "日本" * 200, "a:b", "..", "\udcff", "CON"])
def test_every_name_of_a_data_set_gives_a_folder(output, dataset):
    """A long one was blamed on the output folder."""
    folder = make_run_folder(output, dataset)
    assert folder.parent == runs(output) and folder.is_dir() and len(folder.name.encode()) < 80


def test_a_drive_that_is_not_there_is_named(tmp_path, output):
    (output / "loras").symlink_to(tmp_path / "drive", target_is_directory=True)
    with pytest.raises(SettingError, match="output/loras is a link to a place that is not there"):
        make_run_folder(output, "few")


def test_a_folder_that_cannot_be_made_is_told_without_the_disks_path(output, monkeypatch):
    def read_only(self, *args, **kwargs):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", read_only)
    with pytest.raises(SettingError, match=r"dadapt_runs: Read-only file system\. Allow ComfyUI") as told:
        make_run_folder(output, "few")
    assert str(output) not in str(told.value)


def test_a_new_run_deletes_what_a_killed_run_left_half_written(output):
    left = make_run_folder(output, "few") / ".best-abcdefgh.partial"
    left.touch()
    os.utime(left, (time.time() - 7200,) * 2)
    make_run_folder(output, "few")
    assert not left.exists()


def test_how_many_runs_there_are_is_told_with_their_place_and_size(output):
    assert describe_runs(output) == []
    first = make_run_folder(output, "few")
    assert describe_runs(output)[0].startswith(
        "1 earlier run takes less than 1 MB in output/loras/dadapt_runs"
    )
    (first / "lora.safetensors").write_bytes(bytes(2_000_000))
    second = make_run_folder(output, "few")
    (second / "tensorboard").mkdir()
    (second / "tensorboard" / "events").write_bytes(bytes(1_000_000))
    (runs(output) / "notes").mkdir()
    (runs(output) / "notes" / "mine").write_bytes(bytes(5_000_000))
    assert describe_runs(output) == [
        "2 earlier runs take 3 MB in output/loras/dadapt_runs: delete the folders that you no longer need"
    ]


def test_gigabytes_are_told_as_such(output):
    folder = make_run_folder(output, "few")
    with (folder / "lora.safetensors").open("wb") as file:
        file.truncate(1_060_000_000)
    assert describe_runs(output)[0].startswith("1 earlier run takes 1.1 GB")
