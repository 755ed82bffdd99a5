"""The tiny models that other tests train are ComfyUI's own families, small, and depend on all that they are
given.
"""

import pytest

from tests.host.tiny_families.table import EDITORS, FAMILIES

# two that ComfyUI gives no picture under the name of `c_concat`
NAMED_OTHERWISE = {"LotusD", "WAN21_Vace"}

every_model = pytest.mark.parametrize("name", [*FAMILIES, *EDITORS])
every_family = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(scope="module")
def check(found_by):
    return found_by("tiny_families_check.py")


@every_model
def test_comfyui_loads_it_as_that_class_with_all_its_weights(check, name):
    family = (FAMILIES | EDITORS)[name]
    assert check[name]["class"] == family.config_class
    # ComfyUI reads these keys and then says that it does not know them
    assert check[name]["warnings"] == ([f"unet unexpected: {list(family.markers)}"] if family.markers else [])
    assert check[name]["as loaded by a node"]
    assert check[name]["zeros"] == []


@every_model
def test_it_is_tiny(check, name):
    assert check[name]["parameters"] < 3.1e6


@every_model
def test_its_output_has_the_shape_of_latents_and_about_size_1(check, name):
    assert check[name]["output"] == check[name]["latents"]
    assert 0.3 < check[name]["size"] < 3


@every_model
def test_its_output_depends_on_latents_and_on_text(check, name):
    assert check[name]["by latents"] > 0.1
    assert check[name]["by text"] > 2e-3


@every_model
def test_a_file_gives_the_same_model(check, name):
    assert check[name]["from file"]


def test_detection_is_left_as_it_was(check):
    assert check["detection as before"]


@every_family
def test_a_family_needs_no_picture(check, name):
    assert "c_concat" not in check[name]["conditions"]


@pytest.mark.parametrize("name", EDITORS)
def test_an_editor_is_given_a_picture(check, name):
    assert ("c_concat" in check[name]["conditions"]) == (name not in NAMED_OTHERWISE)


@every_family
def test_its_text_encoder_is_tiny_and_fits(check, name):
    assert check[name]["parameters of CLIP"] < 3e6
    assert check[name]["by caption"] > 1e-3


@every_family
def test_made_up_text_is_like_what_the_text_encoder_returns(check, name):
    assert check[name]["text"] == check[name]["encoded"]
