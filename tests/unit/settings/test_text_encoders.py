"""Which text encoders of a model train: those that usually do, all, or those that somebody names."""

import pytest
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.families import FAMILIES
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig

SDXL, SD3 = ("clip_l", "clip_g"), ("clip_l", "clip_g", "t5xxl")


def trained(asked, available, usual=(), **settings):
    return LoraConfig(text_encoders=asked, **settings).text_encoders_of(available, usual)


@pytest.mark.parametrize(
    "asked, available, usual, found",
    [
        ("auto", SDXL, SDXL, SDXL),
        ("auto", SD3, (), ()),
        ("auto", SD3, ("t5xxl", "clip_l"), ("clip_l", "t5xxl")),
        ("auto", ("qwen25_7b",), SDXL, ()),
        ("all", SD3, (), SD3),
        ("t5xxl", SD3, SDXL, ("t5xxl",)),
        (" t5xxl ,clip_l,", SD3, SDXL, ("clip_l", "t5xxl")),
        ("clip_l, clip_l", SDXL, SDXL, ("clip_l",)),
    ],
)
def test_of_those_that_the_model_has_in_its_order(asked, available, usual, found):
    assert trained(asked, available, usual) == found


@pytest.mark.parametrize("asked", ["auto", "all", "clip_l", "no such encoder"])
def test_none_where_none_is_to_train(asked):
    assert trained(asked, SDXL, SDXL, train_text_encoder=False) == ()


@pytest.mark.parametrize("asked", ["clip_h", "clip_l, clip_h", "", " , ", "auto, clip_l", "ALL"])
def test_what_the_model_does_not_have_is_refused_with_what_it_has(asked):
    told = "text encoders: expected 'auto', 'all' or names from clip_l, clip_g, which this model has, got"
    with pytest.raises(SettingError, match=told) as refused:
        trained(asked, SDXL, SDXL)
    assert repr(asked) in str(refused.value)


def test_by_default_those_of_sd_and_sdxl_train_and_of_newer_families_none():
    usual = {name: family.text_encoders for name, family in FAMILIES.items() if family.text_encoders}
    assert usual == {
        "SD15": ("clip_l",),
        "SD20": ("clip_h",),
        "SDXL": ("clip_l", "clip_g"),
        "SDXLRefiner": ("clip_g",),
    }
