"""Reading a folder: what is told on the way, what is kept, and what is said of a file that cannot be read."""

import errno
import struct
from pathlib import Path

import pytest
from comfyui_dadapt_lora.trainer.data import dataset as dataset_module
from comfyui_dadapt_lora.trainer.data.contact_sheet import contact_sheet
from comfyui_dadapt_lora.trainer.data.dataset import AHEAD, MOST_THUMBNAILS, read_dataset
from comfyui_dadapt_lora.trainer.data.pictures import read_picture, read_thumbnail
from comfyui_dadapt_lora.trainer.data.problems import report_of
from comfyui_dadapt_lora.trainer.errors import DatasetError
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig
from PIL import Image

from tests.unit.data.pictures import add_picture, cut_off

SMALL = DatasetConfig(resolution=128)
SKIP = DatasetConfig(resolution=128, broken_pictures="skip")


class Cancelled(BaseException):
    """As ComfyUI's interrupt is in newer versions."""


@pytest.fixture
def failing(monkeypatch):
    """Makes every reading of the file of a name raise an error, as a disk would."""

    def fail(name: str, error: Exception) -> None:
        for method in ("open", "read_bytes", "read_text"):
            monkeypatch.setattr(Path, method, _raising(getattr(Path, method), name, error))
        monkeypatch.setattr(Image, "open", _raising(Image.open, name, error))

    return fail


def _raising(method, name, error):
    def call(path, *arguments, **named):
        if Path(path).name == name:
            raise error
        return method(path, *arguments, **named)

    return call


# on the way -------------------------------------------------------------------------------------------------


def test_the_callback_hears_of_each_picture_also_of_broken_and_held_out_ones(tmp_path):
    for number in range(4):
        add_picture(tmp_path, f"{number}.png", "x")
    add_picture(tmp_path / "kept", "k.png", "x")
    cut_off(tmp_path / "z.png")
    heard = []
    read_dataset(tmp_path, SKIP, tmp_path / "kept", on_picture=lambda *told: heard.append(told))
    assert heard == [(done, 6) for done in range(7)]


def test_what_the_callback_raises_ends_the_reading_at_once(tmp_path, monkeypatch):
    """Of 100 pictures no more are read than were begun when the second was told."""
    for number in range(100):
        add_picture(tmp_path, f"{number:03}.png")
    begun = []

    def counted(path, side):
        begun.append(path)
        return read_thumbnail(path, side)

    def cancel(done, total):
        if done == 2:
            raise Cancelled

    monkeypatch.setattr(dataset_module, "read_thumbnail", counted)
    with pytest.raises(Cancelled):
        read_dataset(tmp_path, SMALL, on_picture=cancel)
    assert len(begun) <= 2 + AHEAD


# thumbnails -------------------------------------------------------------------------------------------------


def with_thumbnail(dataset):
    return [picture for picture in (*dataset.pictures, *dataset.heldout) if picture.thumbnail]


@pytest.mark.parametrize("count", [1, MOST_THUMBNAILS, MOST_THUMBNAILS + 1, 150])
def test_only_the_thumbnails_of_the_contact_sheet_are_kept(tmp_path, count):
    for number in range(count):
        add_picture(tmp_path, f"{number:03}.png", size=(8, 8))
    shown = with_thumbnail(read_dataset(tmp_path, SMALL))
    assert count / 3 <= len(shown) <= min(count, MOST_THUMBNAILS)


def test_broken_pictures_leave_no_gap_on_the_contact_sheet(tmp_path):
    """Of three pictures in a row the first is shown; where that one is broken, the next."""
    for number in range(150):
        add_picture(tmp_path, f"{number:03}.png", size=(8, 8))
        if number % 3 == 0:
            cut_off(tmp_path / f"{number:03}.png")
    dataset = read_dataset(tmp_path, SKIP)
    assert [picture.name for picture in with_thumbnail(dataset)] == [f"{n:03}.png" for n in range(1, 150, 3)]
    contact_sheet(dataset)


# files that cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, reason",
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/disk/a.png"), "no longer there"),
        (PermissionError(errno.EACCES, "Permission denied", "/disk/a.png"), "not allowed to read it"),
        (OSError(errno.EIO, "Input/output error", "/disk/a.png"), "Input/output error"),
        (OSError("image file is truncated (50 bytes not processed) in /disk/a.png"), "cut off or damaged"),
        (RuntimeError("Failed to decode frame 0"), "cut off or damaged"),  # Pillow, of AVIF
        (struct.error("required argument is not an integer"), "cut off or damaged"),  # Pillow, of EXIF data
        (MemoryError(), "not enough memory"),
    ],
)
def test_whatever_fails_is_told_by_the_pictures_name_without_a_path(tmp_path, failing, error, reason):
    add_picture(tmp_path, "b.png")
    add_picture(tmp_path / "4_style", "a.png")
    failing("a.png", error)
    with pytest.raises(DatasetError) as raised:
        read_dataset(tmp_path, SMALL)
    said = str(raised.value)
    assert "1 of 2 pictures" in said and "\n4_style/a.png: " in said and reason in said
    assert "/disk" not in said and str(tmp_path) not in said


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 100])
def test_a_file_that_is_no_picture_is_told_without_a_path(tmp_path, content):
    add_picture(tmp_path, "b.png")
    (tmp_path / "a.png").write_bytes(content)
    dataset = read_dataset(tmp_path, SKIP)
    assert dataset.broken == ("a.png: it is not a picture, or of a type that cannot be read",)


def test_a_caption_that_cannot_be_read_is_told_by_its_name_below_the_folder(tmp_path, failing):
    add_picture(tmp_path, "b.png")
    add_picture(tmp_path / "4_style", "a.png", "words")
    failing("a.txt", PermissionError(errno.EACCES, "Permission denied", "/disk/a.txt"))
    dataset = read_dataset(tmp_path, SKIP)
    assert dataset.broken == ("4_style/a.txt: ComfyUI is not allowed to read it",)


def test_a_folder_that_cannot_be_read_is_told_by_its_name(tmp_path, monkeypatch):
    add_picture(tmp_path, "b.png")
    add_picture(tmp_path / "4_style", "a.png")
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "4_style":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DatasetError, match="The folder '4_style' cannot be read: ComfyUI is not allowed"):
        read_dataset(tmp_path, SMALL)


def test_a_caption_without_words_counts_as_none(tmp_path):
    add_picture(tmp_path, "a.png", " \n")
    add_picture(tmp_path, "b.png", "words")
    assert "without a caption: 1, trained with no words: a.png" in report_of(read_dataset(tmp_path, SMALL))


@pytest.mark.parametrize("size", [(4007, 4001), (4001, 4007), (300, 200), (128, 128)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_size_is_the_one_of_the_upright_picture(tmp_path, size, orientation):
    """Also of a JPEG that is nearly square, which is decoded to a smaller size that is square."""
    picture = Image.new("RGB", size)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_thumbnail(tmp_path / "a.jpg", 128)[1] == read_picture(tmp_path / "a.jpg").size
