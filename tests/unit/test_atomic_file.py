"""Files appear whole or not at all, and what a killed process left is tidied."""

import os
import time

import pytest
from comfyui_dadapt_lora.trainer.atomic_file import PARTIAL_AGE, remove_old_partials, write_bytes, write_text


def test_text_is_written_as_it_is(tmp_path):
    write_text(tmp_path / "deeper" / "report.json", '{"loss": "gefällt\n"}')
    assert (tmp_path / "deeper" / "report.json").read_bytes() == '{"loss": "gefällt\n"}'.encode()
    assert [path.name for path in (tmp_path / "deeper").iterdir()] == ["report.json"]


@pytest.mark.parametrize("write, data", [(write_bytes, b"new"), (write_text, "new")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, write, data):
    """A full disk cannot be had here: `os.fsync` raises in its place."""
    path = tmp_path / "report.json"
    path.write_text("old")
    seen = []

    def full(handle):
        seen.extend(tmp_path.iterdir())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, data)
    assert len(seen) == 2  # it really was written beside the old one
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_gets_the_usual_permissions(tmp_path):
    """Those of any new file: readable for whom the machine's owner has decided."""
    (tmp_path / "usual").touch()
    write_bytes(tmp_path / "ours", b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_name_as_long_as_the_disk_takes_can_be_written(tmp_path):
    write_bytes(tmp_path / ("x" * 255), b"x")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"x"


OURS = [
    *(".dadapt-0a1b2c3d.partial", ".best-a_b1c2d3.partial"),
    *(".lora-abcdefgh.partial", ".step_000100-abcdefgh.partial"),
]
NOT_OURS = ["lora.safetensors", "best-abcdefgh.partial", ".best-abc.partial", ".my-abcdefgh.partial"]


def test_old_partial_files_go_and_nothing_else(tmp_path):
    for name in OURS + NOT_OURS:
        (tmp_path / "runs" / "few_0001").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / "few_0001" / name).touch()
        age(tmp_path / "runs" / "few_0001" / name)
    young = tmp_path / "runs" / OURS[0]
    young.touch()
    remove_old_partials(tmp_path / "runs")
    assert sorted(path.name for path in (tmp_path / "runs" / "few_0001").iterdir()) == sorted(NOT_OURS)
    assert young.exists()


def test_links_are_not_followed_to_partial_files_elsewhere(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    far = tmp_path / "elsewhere" / OURS[0]
    far.touch()
    age(far)
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    remove_old_partials(tmp_path / "runs")
    assert far.exists()


def age(file) -> None:
    past = time.time() - PARTIAL_AGE - 60
    os.utime(file, (past, past))
