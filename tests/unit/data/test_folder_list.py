"""The list of picture folders: what is on it, and that the disk is listed only where something changed."""

import os
import time

import pytest
from comfyui_dadapt_lora.trainer.data import folder_list
from comfyui_dadapt_lora.trainer.data.folder_list import PAUSE, SLOW, TRUSTED, FolderList
from comfyui_dadapt_lora.trainer.errors import DatasetError


class Clock:
    """The time as the list sees it; the folders were made long before."""

    def __init__(self) -> None:
        self.now = time.time() + 100

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def root(tmp_path):
    for name in ("cats", "dogs/4_small", "a/b/c", "a/b/c/too_deep", ".hidden", "books"):
        (tmp_path / "input" / name).mkdir(parents=True)
    for name in ("cats", "dogs/4_small", "a/b/c", "a/b/c/too_deep", ".hidden"):
        (tmp_path / "input" / name / "1.png").touch()
    return tmp_path / "input"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folders(root, clock):
    return FolderList(lambda: [root], "a folder below input", clock)


@pytest.fixture
def listed(monkeypatch):
    """The folders that were listed, since the test last emptied it."""
    seen = []
    scandir = os.scandir

    def spied(path):
        seen.append(os.path.basename(path))  # noqa: PTH119
        return scandir(path)

    monkeypatch.setattr(folder_list.os, "scandir", spied)
    return seen


def test_folders_with_pictures_are_offered_down_to_three_levels(folders):
    assert folders.names() == ["a/b/c", "cats", "dogs", "dogs/4_small"]


def test_a_queue_lists_nothing_again(folders, listed):
    folders.names()
    assert "cats" in listed
    listed.clear()
    for _ in range(4):
        folders.names()
    assert listed == []


def test_a_new_folder_is_offered_at_once(root, folders, clock, listed):
    """Also where nothing waited in between: a press of R."""
    folders.names()
    (root / "birds").mkdir()
    (root / "birds" / "1.png").touch()
    listed.clear()
    assert "birds" in folders.names()
    assert "cats" not in listed


def test_a_picture_in_a_folder_that_had_none_is_seen(root, folders):
    folders.names()
    (root / "books" / "1.png").touch()
    assert "books" in folders.names()
    (root / "books" / "1.png").unlink()
    assert "books" not in folders.names()


def test_a_picture_in_a_numbered_folder_below_is_seen(root, folders):
    (root / "a" / "b" / "c2" / "2_x").mkdir(parents=True)
    assert "a/b/c2" not in folders.names()
    (root / "a" / "b" / "c2" / "2_x" / "1.png").touch()
    assert "a/b/c2" in folders.names()


def test_a_change_within_the_same_tick_of_the_disk_is_seen(root, folders, clock):
    """The folder's time stays the same, as on a disk that counts whole seconds."""
    clock.now = time.time()
    folders.names()
    stamp = (root / "books").stat()
    (root / "books" / "1.png").touch()
    os.utime(root / "books", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert "books" in folders.names()


def test_a_disk_that_does_not_tell_of_changes_is_listed_after_some_seconds(root, folders, clock):
    folders.names()
    stamp = (root / "books").stat()
    (root / "books" / "1.png").touch()
    os.utime(root / "books", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    clock.now += TRUSTED + 0.1
    assert "books" in folders.names()


def test_a_slow_disk_is_not_asked_at_every_call(root, folders, clock, monkeypatch):
    looks = []

    def slow(folder):
        looks.append(folder)
        clock.now += SLOW
        return False

    monkeypatch.setattr(folder_list, "has_pictures", slow)
    folders.names()
    looks.clear()
    (root / "new").mkdir()
    for _ in range(4):
        folders.names()
    assert looks == []
    clock.now += PAUSE
    folders.names()
    assert looks


def test_a_clock_that_is_set_back_does_not_stop_the_list(root, folders, clock):
    folders.names()
    clock.now -= 10_000
    (root / "books" / "1.png").touch()
    assert "books" in folders.names()


def test_a_folder_that_is_not_on_the_list_is_found(root, folders):
    """What is chosen is looked up when it is queued, however old the list is."""
    folders.names()
    (root / "birds").mkdir()
    assert folders.find("birds") == root / "birds"
    (root / "cats" / "1.png").unlink()
    (root / "cats").rmdir()
    with pytest.raises(DatasetError, match="There is no picture folder 'cats'"):
        folders.find("cats")


NO_FOLDERS = ["..", "", ".", "../input", "a/../..", "/", "x" * 300, "x\0", "\ud800", 5, ["cats"], None]


@pytest.mark.parametrize("name", NO_FOLDERS, ids=ascii)
def test_what_is_no_folder_of_ours_is_refused_in_words(root, folders, name):
    """Also names that no disk can have: Python's own error has the whole path."""
    with pytest.raises(DatasetError, match="There is no picture folder") as refused:
        folders.find(name)
    assert "Expected a folder below input. There are: a/b/c, cats" in str(refused.value)
    assert str(root) not in str(refused.value)


def test_the_first_root_counts_for_a_name_that_two_have(tmp_path, root):
    other = tmp_path / "other"
    (other / "books").mkdir(parents=True)
    (other / "books" / "1.png").touch()
    (other / "birds").mkdir()
    (other / "birds" / "1.png").touch()
    folders = FolderList(lambda: [root, other, tmp_path / "gone"], "there")
    assert "birds" in folders.names() and "books" not in folders.names()
    assert folders.find("books") == root / "books"


def test_links_in_a_circle_end(root, folders):
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    assert "a/loop/cats" in folders.names()
