"""Before the first step Train tries a small one, on every model family."""

import pytest

from tests.host.tiny_families.table import FAMILIES, WRITE_OVER

TRAINED = sorted(FAMILIES.keys() - WRITE_OVER)


@pytest.fixture(scope="module")
def check(found_by):
    return found_by("dry_steps.py")


@pytest.mark.parametrize("family", sorted(WRITE_OVER))
def test_a_network_that_writes_over_what_training_needs_is_refused(check, family):
    said = check[family]["refused"]
    assert said.startswith(f"{family} cannot be trained by this version of the pack: its network writes over")
    assert "Nothing was trained" in said and "modified by an inplace operation" in said


@pytest.mark.parametrize("family", TRAINED)
def test_a_family_that_trains_is_not_refused_and_its_lora_is_the_same(check, family):
    """Bit for bit the one of a run without a dry step."""
    assert check[family]["same"]


@pytest.mark.parametrize("family", TRAINED)
def test_its_memory_is_measured(check, family):
    found = check[family]
    assert found["plain"] > 0 < found["checkpointed"] and found["plain"] != found["by the table"]
    assert found["need"].startswith("needs about ") and "one step" in found["need"]
    assert not found["checkpointing"]


def test_layers_that_take_no_part_are_told_briefly(check):
    """CLIP-L's last layer says nothing to SDXL. SD 1.5 hears all of its text encoder."""
    assert check["SDXL"]["told"] == [
        "6 of 18 layers of the text encoder clip_l take no part in this model, and stay zero in the LoRA"
    ]
    assert check["SD15"]["told"] == []


def test_layers_of_the_network_without_a_gradient_are_named(check):
    """The last block of Qwen-Image makes something of the text that nobody reads."""
    said = check["QwenImage"]["told"][0]
    assert "layers of the UNet get no gradient" in said and "lora_unet_transformer_blocks_1_txt_mlp" in said


def test_where_memory_is_short_blocks_are_checkpointed_or_the_person_is_told(check):
    found = check["short of memory"]
    assert found["auto"]["checkpointing"] and not found["off"]["checkpointing"]
    (advice,) = found["off"]["told"]
    assert "does not fit. Set checkpointing at Train to 'on' (" in advice
    (advice,) = found["auto"]["told"]
    assert "does not fit. Set pictures_at_once at Train to 1 (" in advice


def test_a_batch_that_does_not_fit_is_trained_in_parts(check):
    found = check["out of memory"]
    assert found["apart"] < 1e-4 * found["size"]


def test_a_picture_that_does_not_fit_ends_the_run_with_what_to_change(check):
    said = check["out of memory"]["said"]
    assert "with one picture at once. Set checkpointing to 'on' at Train" in said
    assert said.endswith("(CUDA out of memory.)")
