"""What a folder of pictures gives, and what is said of its faults."""

import numpy as np
import pytest
from comfyui_dadapt_lora.trainer.data.captions import with_trigger
from comfyui_dadapt_lora.trainer.data.contact_sheet import contact_sheet
from comfyui_dadapt_lora.trainer.data.dataset import read_dataset
from comfyui_dadapt_lora.trainer.data.folder import has_pictures
from comfyui_dadapt_lora.trainer.data.problems import problems_of, report_of
from comfyui_dadapt_lora.trainer.errors import DatasetError
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig
from PIL import Image

from tests.unit.data.pictures import add_picture, cut_off

SMALL = DatasetConfig(resolution=128)


def test_subfolders_repeat_by_their_number_and_others_are_named(tmp_path):
    add_picture(tmp_path, "a.png", "a")
    add_picture(tmp_path / "3_b", "b.jpg", "b")
    add_picture(tmp_path / "10_c", "c.webp", "c")
    add_picture(tmp_path / "raw", "d.png", "d")
    dataset = read_dataset(tmp_path, SMALL)
    assert {picture.path.name: picture.repeats for picture in dataset.pictures} == {
        "a.png": 1,
        "b.jpg": 3,
        "c.webp": 10,
    }
    assert dataset.pictures_per_epoch == 14
    assert "raw" in report_of(dataset) and "rename as '1_name'" in report_of(dataset)


def test_a_folder_that_is_chosen_itself_repeats_by_its_own_number(tmp_path):
    add_picture(tmp_path / "4_fluent3d", "a.png", "a")
    assert read_dataset(tmp_path / "4_fluent3d", SMALL).pictures[0].repeats == 4


def test_a_year_or_a_date_is_no_number_of_repeats(tmp_path):
    add_picture(tmp_path / "2024_summer", "a.png", "a")
    add_picture(tmp_path / "2024_summer" / "20240115_birthday", "b.png", "b")
    dataset = read_dataset(tmp_path / "2024_summer", SMALL)
    assert [(picture.path.name, picture.repeats) for picture in dataset.pictures] == [("a.png", 1)]
    assert "not read: 20240115_birthday" in report_of(dataset)


def test_nothing_that_is_left_out_goes_without_a_word(tmp_path):
    add_picture(tmp_path, "a.png", "a")
    add_picture(tmp_path / "3_b", "b.png", "b")
    add_picture(tmp_path / "3_b" / "more", "c.png", "c")
    add_picture(tmp_path / "0_off", "d.png", "d")
    for name in ("phone.heic", "moving.GIF", "a.caption", "notes.md", ".hidden.heic"):
        (tmp_path / name).write_bytes(b"x")
    dataset = read_dataset(tmp_path, SMALL)
    assert dataset.left_out.folders == ("0_off", "3_b/more")
    assert set(dataset.left_out.files) == {"phone.heic", "moving.GIF", "a.caption"}
    for name in (*dataset.left_out.folders, *dataset.left_out.files):
        assert name in report_of(dataset)


def test_a_held_out_folder_inside_is_not_left_out_and_its_own_faults_are_told(tmp_path):
    add_picture(tmp_path, "a.png", "a")
    add_picture(tmp_path / "kept", "b.png", "b")
    (tmp_path / "kept" / "phone.heic").write_bytes(b"x")
    problems = problems_of(read_dataset(tmp_path, SMALL, tmp_path / "kept"))
    assert problems == [
        "files of types that are not read: 1: phone.heic (save pictures as PNG or JPEG, captions as txt)"
    ]


def test_pictures_that_lose_much_of_themselves_are_named(tmp_path):
    add_picture(tmp_path, "panorama.png", "a", size=(512, 128))
    add_picture(tmp_path, "wide.png", "b", size=(256, 128))
    problems = "\n".join(problems_of(read_dataset(tmp_path, SMALL)))
    assert "cropped" in problems and "panorama.png" in problems and "wide.png" not in problems


def test_a_data_set_without_faults_has_no_problems(tmp_path):
    add_picture(tmp_path, "a.png", "a")
    assert problems_of(read_dataset(tmp_path, SMALL)) == []


@pytest.mark.parametrize("folder, there", [("", True), ("2_a", True), ("raw", False), ("2024_b", False)])
def test_a_folder_is_offered_if_a_picture_would_be_read(tmp_path, folder, there):
    add_picture(tmp_path / folder, "a.png")
    (tmp_path / "notes.txt").write_text("x")
    assert has_pictures(tmp_path) is there


@pytest.mark.parametrize(
    "trigger, caption, expected",
    [
        ("fluent3d", "red apple", "fluent3d, red apple"),
        ("fluent3d", "a fluent3d apple", "a fluent3d apple"),
        ("art", "party hat", "art, party hat"),
        ("", "red apple", "red apple"),
        ("fluent3d", "", "fluent3d"),
        (" fluent3d ", " red apple\n", "fluent3d, red apple"),
        ("", "", ""),
    ],
)
def test_trigger_word_stands_before_the_caption_once(trigger, caption, expected):
    assert with_trigger(trigger, caption) == expected


def test_missing_captions_are_reported_and_trained_with_the_trigger_word(tmp_path):
    add_picture(tmp_path, "a.png")
    add_picture(tmp_path, "b.png", "b")
    dataset = read_dataset(tmp_path, DatasetConfig(resolution=128, trigger_word="trig"))
    assert [picture.caption for picture in dataset.pictures] == ["trig", "trig, b"]
    assert "without a caption: 1" in report_of(dataset) and "a.png" in report_of(dataset)


def test_broken_pictures_stop_with_all_their_names_or_are_skipped_and_reported(tmp_path):
    add_picture(tmp_path, "good.png", "good")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    cut_off(tmp_path / "cut.png")
    with pytest.raises(DatasetError) as error:
        read_dataset(tmp_path, SMALL)
    for name in ("empty.png", "text.jpg", "cut.png", "'skip'"):
        assert name in str(error.value)
    dataset = read_dataset(tmp_path, DatasetConfig(resolution=128, broken_pictures="skip"))
    assert [picture.path.name for picture in dataset.pictures] == ["good.png"]
    assert "broken and skipped: 3" in report_of(dataset)


def test_a_caption_that_is_not_utf8_is_named(tmp_path):
    add_picture(tmp_path, "a.png")
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"a\.txt: it is not UTF-8 text"):
        read_dataset(tmp_path, SMALL)


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(DatasetError, match=r"no pictures.*\.png"):
        read_dataset(tmp_path, SMALL)


def test_a_folder_with_pictures_only_in_unread_subfolders_names_them(tmp_path):
    add_picture(tmp_path / "raw", "a.png")
    with pytest.raises(DatasetError, match=r"raw.*1_name"):
        read_dataset(tmp_path, SMALL)


def test_held_out_share_is_the_same_each_time_and_stays_when_a_picture_is_added(tmp_path):
    for number in range(20):
        add_picture(tmp_path, f"{number}.png", "x")
    config = DatasetConfig(resolution=128, heldout_share=0.2)
    first, again = read_dataset(tmp_path, config), read_dataset(tmp_path, config)
    names = {picture.path.name for picture in first.heldout}
    assert len(names) == 4 and len(first.pictures) == 16
    assert names == {picture.path.name for picture in again.heldout}
    assert not names & {picture.path.name for picture in first.pictures}
    add_picture(tmp_path, "new.png", "x")
    assert len(names - {picture.path.name for picture in read_dataset(tmp_path, config).heldout}) <= 1


def test_held_out_share_and_folder_together_are_refused(tmp_path):
    add_picture(tmp_path / "a", "a.png")
    add_picture(tmp_path / "b", "b.png")
    with pytest.raises(DatasetError, match="Keep one"):
        read_dataset(tmp_path / "a", DatasetConfig(resolution=128, heldout_share=0.1), tmp_path / "b")


def test_transparent_pictures_lie_on_white_and_turned_ones_stand_upright(tmp_path):
    Image.new("RGBA", (128, 128), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    turned = Image.new("RGB", (64, 128), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6  # "rotate by 90 degrees to view"
    turned.save(tmp_path / "turned.jpg", exif=exif)
    clear, turned = read_dataset(tmp_path, SMALL).pictures
    assert clear.thumbnail.getpixel((5, 5)) == (255, 255, 255)
    assert turned.size == (128, 64)


def test_contact_sheet_shows_every_picture_of_a_small_data_set(tmp_path):
    colours = ["red", "green", "blue"]
    for colour in colours:
        add_picture(tmp_path, f"{colour}.png", colour, colour=colour)
    sheet = contact_sheet(read_dataset(tmp_path, SMALL))
    found = {colour for _, colour in sheet.getcolors(maxcolors=100_000)}
    assert {(255, 0, 0), (0, 128, 0), (0, 0, 255)} <= found


def test_a_held_out_folder_inside_the_data_set_is_not_trained_on(tmp_path):
    add_picture(tmp_path / "1_train", "a.png", "a")
    add_picture(tmp_path / "2_test", "b.png", "b")
    dataset = read_dataset(tmp_path, SMALL, tmp_path / "2_test")
    assert [picture.path.name for picture in dataset.pictures] == ["a.png"]
    assert [picture.path.name for picture in dataset.heldout] == ["b.png"]
    with pytest.raises(DatasetError, match="none is left to train on"):
        read_dataset(tmp_path / "2_test", SMALL, tmp_path / "2_test")


def test_16_bit_grey_keeps_its_shades(tmp_path):
    """Half of white is middle grey, not white."""
    Image.fromarray(np.full((128, 128), 32768, dtype=np.uint16)).save(tmp_path / "grey.png")
    (picture,) = read_dataset(tmp_path, SMALL).pictures
    assert picture.thumbnail.getpixel((5, 5)) == (128, 128, 128)
