"""A family is one row: looked up by its class, and followed in noise levels, layers and text encoders."""

import re

import pytest
from comfyui_dadapt_lora.trainer.adapters.choice import unet_layers
from comfyui_dadapt_lora.trainer.distribution import LOGIT_NORMAL, UNIFORM, Distribution
from comfyui_dadapt_lora.trainer.families import FAMILIES, Family, FileNames, family_of
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig

from tests.unit.toy_networks import DiT

ABOVE_ALL = ("BASE", "object")  # ComfyUI's base class of all model configs, and Python's
NEW = Family(
    "New Model",
    768,
    Distribution(LOGIT_NORMAL, mean=0.5, shift=4.0, custom="its authors"),
    FileNames("new-model", "new_model"),
    leaves_out=re.compile("mlp|modulation"),
    text_encoders=("clip_g",),
    guidance=1.0,
)


def layers(family):
    return list(unet_layers(DiT(), family, LoraConfig()))


def encoders(family):
    return LoraConfig().text_encoders_of(("clip_l", "clip_g"), family.text_encoders)


def test_a_model_without_a_row_trains_by_the_generic_one():
    family = family_of(["NewModel", *ABOVE_ALL], is_flow=True)
    assert not family.has_row and family.name == "NewModel"
    assert len(layers(family)) == 9 and encoders(family) == () and family.guidance is None


def test_one_row_is_all_that_a_family_needs(monkeypatch):
    monkeypatch.setitem(FAMILIES, "NewModel", NEW)
    family = family_of(["NewModel", *ABOVE_ALL], is_flow=True)
    assert family.has_row and family.resolution == 768 and family.guidance == 1.0
    assert str(family.noise) == "logit-normal, mean 0.5, deviation 1, shift 4"
    assert layers(family) == ["noise_refiner.0.attn.qkv", "layers.0.attn.qkv", "layers.1.attn.qkv"]
    assert encoders(family) == ("clip_g",)
    assert family.files == FileNames("new-model", "new_model")


@pytest.mark.parametrize(
    "classes, row",
    [
        (("SDXL",), "SDXL"),
        (("SSD1B", "SDXL"), "SDXL"),
        (("SDXLRefiner",), "SDXLRefiner"),
        (("FluxInpaint", "Flux"), "Flux"),
        (("FluxSchnell", "Flux"), "FluxSchnell"),
        (("Flux2", "Flux"), "Flux2"),
        (("ZImage", "Lumina2"), "ZImage"),
        (("ZImagePixelSpace", "ZImage", "Lumina2"), "ZImage"),
        (("HunyuanImage21", "HunyuanVideo"), "HunyuanImage21"),
        (("HunyuanVideoI2V", "HunyuanVideo"), "HunyuanVideo"),
    ],
)
def test_the_row_of_the_nearest_class_is_taken(classes, row):
    assert family_of([*classes, *ABOVE_ALL], is_flow=row != "SDXL") is FAMILIES[row]


def test_what_a_row_says_is_not_asked_of_the_network():
    """SD 3 is a flow, and yet is drawn uniformly by its trainer."""
    assert family_of(["SD3"], is_flow=True) == family_of(["SD3"], is_flow=False)


@pytest.mark.parametrize("is_flow, kind", [(True, LOGIT_NORMAL), (False, UNIFORM)])
def test_without_a_row_a_flow_trains_as_most_flows_and_others_as_they_were_made(is_flow, kind):
    family = family_of(["NewModel"], is_flow)
    assert (family.noise.kind, family.noise.shift, family.noise.by_tokens) == (kind, 1.0, None)
    assert (family.resolution, family.files) == (1024, FileNames("NewModel", "NewModel"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_says_whose_custom_its_noise_is_and_leaves_modulation_out(name):
    family = FAMILIES[name]
    assert family.has_row and family.noise.custom
    assert family.files.architecture and family.files.base_version
    assert family.layers or family.leaves_out.search("blocks.0.adaLN_modulation.1")
    assert 512 <= family.resolution <= 2048


def test_an_inherited_row_takes_over_nothing_that_is_another_models():
    """HunyuanVideo is distilled to guide itself, and Flux dev is; those that derive from them are not."""
    unguided = ("HunyuanImage21", "HunyuanVideo15", "FluxSchnell")
    assert [FAMILIES[name].guidance for name in unguided] == [None, None, None]
    assert [FAMILIES[name].guidance for name in ("HunyuanVideo", "Flux", "Flux2")] == [1.0, 1.0, 1.0]
