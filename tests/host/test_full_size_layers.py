"""LoRA Config adapts by default, in real models, the layers that people expect of each family."""

import pytest
from comfyui_dadapt_lora.trainer.families import FAMILIES

# How many layers are adapted, of how many linear layers and 1x1 convolutions that the blocks have. Without a
# word beside them: all but those that a UNet's noise level or a transformer's modulation is made by.
LAYERS: dict[str, tuple[int, int]] = {
    "SD15": (192, 228),  # as kohya's sd-scripts
    "SD20": (192, 228),
    "SDXL": (722, 750),  # as kohya's sd-scripts
    "SDXLRefiner": (462, 498),
    "SSD1B": (360, 387),
    "Segmind_Vega": (170, 197),
    "KOALA_700M": (222, 239),
    "KOALA_1B": (314, 333),
    "SD3 medium": (189, 237),
    "SD3.5 medium": (215, 263),
    "SD3.5 large": (301, 377),
    "AuraFlow": (280, 320),
    "PixArtAlpha": (196, 196),
    "PixArtSigma": (196, 196),
    "HunyuanDiT": (280, 339),  # nor the 19 links over its blocks
    "HunyuanDiT1": (280, 339),
    "Flux": (228, 304),
    "FluxSchnell": (228, 304),
    "Flux2": (160, 160),  # its modulation is outside the blocks
    "Chroma": (228, 238),  # nor the 10 of what its modulation comes from
    "ChromaRadiance": (228, 242),  # nor 4 that make other weights
    "Lumina2": (150, 178),
    "ZImage": (150, 202),  # nor the 20 of its refiners
    "QwenImage": (720, 840),
    "Wan 14B": (400, 400),
    "Wan 1.3B": (300, 300),
    "Wan 2.2 5B": (300, 300),
    "HunyuanVideo": (240, 330),  # nor the 8 of its text's refiner
    "HunyuanVideo15": (432, 550),
    "HunyuanImage21": (240, 330),
    "HiDream": (448, 1121),  # nor 576 of experts and 49 that fit the text to its width
    "Omnigen2": (266, 302),
    "Cosmos Predict2 2B": (280, 448),
    "Cosmos Predict2 14B": (360, 576),
    "Cosmos 7B": (280, 450),  # nor 2 of its noise level's embedding
    "LTXV": (280, 280),
    "Stable_Cascade_C": (642, 642),  # no trainer of it is known: all
}

# By ComfyUI's class: those of whose family nothing is known, and those that are in newer ComfyUIs alone.
WITHOUT_A_ROW = {"CosmosT2V", "LTXV", "Stable_Cascade_C"}
NEWER = {"Anima", "Krea2"}

every_model = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(scope="module")
def found(found_by):
    return found_by("full_size_layers.py")


@pytest.fixture
def check(found):
    return found["models"]


@every_model
def test_so_many_layers_are_adapted(check, name):
    assert (check[name]["chosen"], check[name]["in blocks"]) == LAYERS[name]
    assert check[name]["outside"] == []


@every_model
def test_comfyui_takes_weights_of_these_shapes_for_that_class(check, name):
    """So the numbers are those of real files."""
    assert check[name]["detected"] == check[name]["class"]


@every_model
def test_every_block_is_a_module_that_is_called(check, name):
    """A list is never called, so that checkpointing it would save nothing."""
    assert check[name]["lists"] == []


def test_every_model_is_counted(check):
    assert check.keys() == LAYERS.keys()


def test_a_row_stands_under_the_name_of_a_class_of_comfyui(found):
    assert FAMILIES.keys() - NEWER <= found["classes"].keys()


def test_every_model_that_is_counted_has_a_row_or_is_known_to_have_none(check, found):
    rows = {family.name for family in FAMILIES.values()}
    classes = {model["class"] for model in check.values()}
    assert {one for one in classes if found["classes"][one] not in rows} == WITHOUT_A_ROW
