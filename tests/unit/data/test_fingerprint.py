"""The fingerprint changes if and only if what is trained changes."""

import errno
import os
from pathlib import Path

import pytest
from comfyui_dadapt_lora.trainer.data.fingerprint import content_digest, fingerprint
from comfyui_dadapt_lora.trainer.errors import DatasetError
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig

from tests.unit.data.pictures import add_picture, cut_off

SMALL = DatasetConfig(resolution=128)


@pytest.fixture
def first(tmp_path):
    """The fingerprint of a folder with two pictures, of which one has a caption."""
    add_picture(tmp_path, "a.png", "a cat")
    add_picture(tmp_path, "b.png")
    return fingerprint(tmp_path, SMALL)


def rewrite(path, content):
    """Other content of the same size with the same time of modification, as rsync and unzip leave it."""
    stat = path.stat()
    assert len(content) == stat.st_size
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_it_changes_with_a_picture_a_caption_a_name_or_a_setting(tmp_path, first):
    seen = {first}
    (tmp_path / "a.txt").write_text("another")
    seen.add(fingerprint(tmp_path, SMALL))
    add_picture(tmp_path, "a.png", colour="green")
    seen.add(fingerprint(tmp_path, SMALL))
    (tmp_path / "a.txt").unlink()
    seen.add(fingerprint(tmp_path, SMALL))
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    seen.add(fingerprint(tmp_path, SMALL))
    seen.add(fingerprint(tmp_path, DatasetConfig(resolution=192)))
    assert len(seen) == 6


def test_it_does_not_change_with_a_date_or_with_a_file_that_is_not_trained(tmp_path, first):
    os.utime(tmp_path / "a.png", (1, 1))
    (tmp_path / "notes.md").write_text("x")
    assert fingerprint(tmp_path, SMALL) == first


def test_a_caption_of_the_same_size_and_time_is_noticed(tmp_path, first):
    rewrite(tmp_path / "a.txt", b"a dog")
    assert fingerprint(tmp_path, SMALL) != first


@pytest.mark.posix
def test_a_picture_of_the_same_size_and_time_is_noticed(tmp_path, first):
    content = bytearray((tmp_path / "b.png").read_bytes())
    content[-20] ^= 1
    rewrite(tmp_path / "b.png", bytes(content))
    assert fingerprint(tmp_path, SMALL) != first


@pytest.mark.parametrize("content", ["", " \n", "\ufeff"])
def test_a_caption_without_words_that_is_added_changes_nothing(tmp_path, first, content):
    (tmp_path / "b.txt").write_text(content, encoding="utf-8")
    assert fingerprint(tmp_path, SMALL) == first


def test_an_unchanged_picture_is_not_read_again(tmp_path, first, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path.name} was read"))
    assert fingerprint(tmp_path, SMALL) == first


def test_a_broken_picture_or_caption_gives_the_same_fingerprint_each_time(tmp_path, first):
    """It is for Load Dataset to say what is wrong; a folder that it skips files of trains once."""
    cut_off(tmp_path / "c.png")
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    again = fingerprint(tmp_path, SMALL)
    assert again != first and again == fingerprint(tmp_path, SMALL)


def test_a_picture_that_may_not_be_read_gives_the_same_fingerprint_each_time(tmp_path, first, monkeypatch):
    read = Path.read_bytes

    def refuse(path):
        if path.name == "c.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    add_picture(tmp_path, "c.png")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert first != fingerprint(tmp_path, SMALL) == fingerprint(tmp_path, SMALL)


def test_a_file_that_is_gone_is_told_without_its_path(tmp_path):
    with pytest.raises(DatasetError, match=r"^it is no longer there$"):
        content_digest(tmp_path / "a.png")


@pytest.mark.posix
def test_a_name_that_is_no_text_does_no_harm(tmp_path, first):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    odd.write_bytes((tmp_path / "a.png").read_bytes())
    assert fingerprint(tmp_path, DatasetConfig(resolution=128, heldout_share=0.1)) != first
