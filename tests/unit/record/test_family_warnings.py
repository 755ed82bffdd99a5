"""What is told of a model's family before the first step."""

import pytest
from comfyui_dadapt_lora.trainer.families import FAMILIES, family_of
from comfyui_dadapt_lora.trainer.record.facts import ModelFacts
from comfyui_dadapt_lora.trainer.record.family_warnings import family_warnings
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig


def told(family=FAMILIES["SDXL"], name="sdxl.safetensors", parts=("unet", "clip_l"), resolution=1024, **lora):
    return "\n".join(family_warnings(ModelFacts(family, name, None, parts), LoraConfig(**lora), resolution))


def test_an_ordinary_model_is_not_warned_of():
    assert told() == ""


@pytest.mark.parametrize(
    "name", ["sd_xl_turbo_1.0.safetensors", "RealVisXL_Lightning.safetensors", "model_4step.safetensors",
             "sdxl-dmd2.safetensors", "dreamshaper_8LCM.safetensors".replace("8L", "8_L")]
)  # fmt: skip
def test_a_distilled_checkpoint_is_told_by_its_name(name):
    assert "distilled" in told(name=name)


@pytest.mark.parametrize(
    "name", ["z_image_deturbo.safetensors", "krea2_raw.safetensors", "stepmania.safetensors"]
)
def test_a_checkpoint_that_undid_it_is_not(name):
    assert "distilled" not in told(name=name)


def test_pictures_that_are_too_small_for_the_family_are_told():
    assert "512 x 512 pixels, and SDXL was made for 1024 x 1024" in told(resolution=512)
    assert told(resolution=768) == ""
    assert told(FAMILIES["SD15"], resolution=128) == ""


def test_a_family_without_a_row_says_so():
    assert "generic row" in told(family_of(["Unheard", "BASE"], is_flow=True), parts=("unet",))


def test_a_text_encoder_that_does_not_train_although_it_is_switched_on_is_told():
    flux = FAMILIES["Flux"]
    assert "text_encoders of LoRA Config" in told(flux, parts=("unet",))
    assert told(flux, parts=("unet",), train_text_encoder=False) == ""
    assert told(flux, parts=("unet", "clip_l"), text_encoders="clip_l") == ""
