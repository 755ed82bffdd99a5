"""A file name is refused in words, or saved under exactly the name that was written."""

from pathlib import Path

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.file import write_lora
from comfyui_dadapt_lora.trainer.adapters.file_name import MOST_BYTES, checked_name, safe_part
from comfyui_dadapt_lora.trainer.adapters.file_place import place_for
from comfyui_dadapt_lora.trainer.errors import SettingError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HOSTILE_PIECES = [
    *("..", ".", "/", "\\", ":", "C:", "c:/", "//server/share", "~", "%TEMP%", "$HOME", "custom_nodes"),
    *(" ", "\t", "\n", "\r\n", "\0", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u202e", "\u00a0", "\u3000"),
    *("\ud800", "\udfff", "\ufeff", "e\u0301", "ä", "日本", "🌻", "ß" * 120, "x" * 239, "x" * 4000),
    *("CON", "nul", "Com1", "LPT9", "COM²", "aux.txt", "conin$", "*", "?", "<", ">", "|", '"', "'", "`"),
    *(".git", ".safetensors", "safetensors", "my_lora", "a", "output", "loras", "dadapt_runs", ".partial"),
    *("-", "--help", ";", "&"),
]
hostile_names = st.one_of(st.lists(st.sampled_from(HOSTILE_PIECES), max_size=9).map("".join), st.text())

REFUSED = {
    "": "it is empty",
    "   ": "it is empty",
    ".safetensors": "it is empty",
    "..": "begin with a dot",
    "...": "begin with a dot",
    "../x": "begin with a dot",
    "../../custom_nodes/x/../../output/loras/y": "begin with a dot",
    "x/../y": "begin with a dot",
    ".git/x": "begin with a dot",
    "x.": "end with a dot",
    "x /y": "begin or end with a space",
    " x": "begin or end with a space",
    "x\u3000": "begin or end with a space",
    "/etc/x": "a '/' needs a name before and after it",
    "x/": "a '/' needs a name before and after it",
    "x//y": "a '/' needs a name before and after it",
    "styles\\x": "write '/' instead of '\\'",
    "C:\\x": "write '/' instead of '\\'",
    "a:b": "':' cannot be in a file name",
    "C:/x": "':' cannot be in a file name",
    "a\0b": "'\\x00' cannot be in a file name",
    "a\nb": "'\\n' cannot be in a file name",
    "a\u202egnp.b": "cannot be in a file name",
    "what?": "'?' cannot be in a file name",
    "\ud800": "half of a character",
    "NUL": "Windows reserves 'NUL'",
    "styles/con": "Windows reserves 'con'",
    "com1.v2": "Windows reserves 'com1'",
    "LPT³": "Windows reserves",
    "x" * 240: "has 240 bytes, and 239 are the most",
    "ä" * 120: "has 240 bytes, and 239 are the most",
    "/".join(["ß" * 100] * 3): "has more than 500 bytes",
    "/".join(["x" * 200] * 3): "has more than 500 bytes",
}
ACCEPTED = [
    *("my_lora", "styles/my_lora", "a/b/c", "v1.5", "日本/ひまわり 2", "conan", "a'b & c"),
    "x" * MOST_BYTES,
]


@pytest.mark.parametrize("filename", REFUSED, ids=ascii)
def test_a_name_that_cannot_be_is_refused_with_the_reason(filename):
    with pytest.raises(
        SettingError, match="expected a name such as 'my_lora' or 'styles/my_lora'"
    ) as refused:
        checked_name(filename)
    assert REFUSED[filename] in str(refused.value)


@pytest.mark.parametrize("filename", [None, 3, ["x"], b"x"])
def test_what_is_no_text_is_refused(filename):
    with pytest.raises(SettingError, match="it is not a text"):
        checked_name(filename)


@pytest.mark.parametrize("filename", ACCEPTED, ids=ascii)
def test_a_usual_name_is_accepted_with_and_without_its_ending(filename):
    assert checked_name(filename) == filename
    assert checked_name(f"{filename}.safetensors") == filename


@settings(deadline=None)
@given(hostile_names)
def test_the_answer_is_short_and_can_be_sent_to_the_page(filename):
    """It repeats no name of a million characters, and has no half of a character that JSON cannot carry."""
    try:
        checked_name(filename * 100)
    except SettingError as refused:
        assert len(str(refused)) < 600
        assert str(refused).encode()


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filename=hostile_names, overwrite=st.booleans())
def test_a_hostile_name_is_refused_or_saved_as_it_was_written(tmp_path, filename, overwrite):
    """Nothing but `SettingError` is raised, and nothing is made anywhere before the file is written.

    Each file has the name that was written, in the one folder.
    """
    output = tmp_path / "ComfyUI" / "output"
    output.mkdir(parents=True, exist_ok=True)
    before = everything(tmp_path)
    try:
        path = place_for(output, filename, overwrite)
    except SettingError:
        assert everything(tmp_path) == before
        return
    assert everything(tmp_path) == before
    write_lora(path, {"a.lora_up.weight": torch.zeros(1)}, {})
    written = path.relative_to(output / "loras").as_posix()
    assert written == f"{filename.removesuffix('.safetensors')}.safetensors"
    made = everything(tmp_path) - before
    assert all(name.startswith("ComfyUI/output/loras") for name in made)
    assert f"ComfyUI/output/loras/{written}" in everything(tmp_path)
    path.unlink()


@settings(deadline=None)
@given(hostile_names)
def test_any_text_becomes_a_part_of_a_name(text):
    """A run folder is named after its data set, whatever that is called."""
    part = safe_part(text)
    assert checked_name(f"{part}_0001") == f"{part}_0001"
    assert "/" not in part and len(part.encode()) <= 64


@pytest.mark.parametrize(
    "text, part",
    [("styles/sun flower", "styles_sun flower"), ("..", "run"), ("a:b", "a_b"), ("nul.x", "run_nul.x")],
)
def test_a_text_stays_readable_as_a_part_of_a_name(text, part):
    assert safe_part(text) == part


def test_of_a_long_text_the_end_is_left():
    assert safe_part("pictures/" * 30 + "sunflowers").endswith("_pictures_sunflowers")


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
