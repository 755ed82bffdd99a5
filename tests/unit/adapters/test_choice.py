"""Which layers get a LoRA: what is usual for the model, or what somebody asks for by name."""

import re

import pytest
from comfyui_dadapt_lora.trainer.adapters.choice import text_encoder_layers, unet_layers
from comfyui_dadapt_lora.trainer.errors import ModelError, SettingError
from comfyui_dadapt_lora.trainer.families import FAMILIES, family_of
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig

from tests.unit.toy_networks import T5, DiT, NoBlocks, SeesPictures, UNet

SD15, LUMINA2, Z_IMAGE = (FAMILIES[name] for name in ("SD15", "Lumina2", "ZImage"))
TRANSFORMERS = ("input_blocks.1.1", "middle_block.1")
OF_A_TRANSFORMER = [
    *("proj_in", "transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn1.to_out.0"),
    *("transformer_blocks.0.ff.net.0.proj", "transformer_blocks.0.ff.net.2", "proj_out"),
]
ATTENTION = [f"{place}.{layer}" for place in TRANSFORMERS for layer in OF_A_TRANSFORMER]
CONVOLUTIONS = [
    *("input_blocks.1.0.in_layers.1", "input_blocks.2.0.in_layers.1", "middle_block.0.in_layers.1"),
    *("output_blocks.0.0.in_layers.1", "output_blocks.0.1.conv"),
]


def chosen(network, family, **settings):
    return unet_layers(network, family, LoraConfig(dim=8, **settings))


def test_of_a_unet_the_layers_of_its_transformer_blocks():
    assert list(chosen(UNet(), SD15)) == ATTENTION


def test_of_a_transformer_the_linear_layers_of_its_blocks_without_modulation():
    blocks = ("noise_refiner.0", "layers.0", "layers.1")
    assert list(chosen(DiT(), LUMINA2)) == [
        f"{block}.{layer}" for block in blocks for layer in ("attn.qkv", "mlp.0", "mlp.2")
    ]


def test_a_family_leaves_out_more_by_name():
    names = chosen(DiT(), Z_IMAGE)
    assert names and not [name for name in names if "refiner" in name]


def test_all_takes_every_layer_inside_and_outside_of_blocks():
    names = list(chosen(DiT(), Z_IMAGE, layers="all"))
    assert names[0] == "x_embedder" and names[-1] == "final_layer"
    assert len(names) == 15  # three outside, and three blocks of four


def test_all_has_the_networks_order_and_one_dim():
    network = UNet()
    dims = chosen(network, SD15, layers="all")
    order = [name for name, _ in network.named_modules() if name in dims]
    assert list(dims) == order and {*CONVOLUTIONS, *ATTENTION, "time_embed.0", "out.1"} < dims.keys()
    assert set(dims.values()) == {8}


def test_conv_dim_adds_the_large_convolutions_of_the_blocks_with_their_own_dim():
    """Not the first and the last of the network."""
    dims = chosen(UNet(), SD15, conv_dim=2)
    assert {name: dim for name, dim in dims.items() if dim != 8} == dict.fromkeys(CONVOLUTIONS, 2)
    assert [name for name in dims if name not in CONVOLUTIONS] == ATTENTION


def test_conv_dim_of_all_is_that_of_every_large_convolution():
    dims = chosen(UNet(), SD15, layers="all", conv_dim=2)
    ends = {"input_blocks.0.0", "out.1"}
    assert {name for name, dim in dims.items() if dim == 2} == {*CONVOLUTIONS, *ends}


def test_a_transformer_without_convolutions_ignores_conv_dim():
    assert chosen(DiT(), LUMINA2, conv_dim=2) == chosen(DiT(), LUMINA2)


@pytest.mark.parametrize(
    "include, kept",
    [
        ("attn1", [name for name in ATTENTION if "attn1" in name]),
        ("middle_block, to_q", [name for name in ATTENTION if "middle_block" in name or "to_q" in name]),
        ("input*attn1*to_q", ["input_blocks.1.1.transformer_blocks.0.attn1.to_q"]),
        ("ff.*2", [name for name in ATTENTION if name.endswith("ff.net.2")]),
        (" , ", ATTENTION),
    ],
)
def test_include_takes_layers_whose_names_contain_one_of_its_parts(include, kept):
    assert list(chosen(UNet(), SD15, include=include)) == kept


def test_exclude_leaves_out_of_those():
    assert list(chosen(UNet(), SD15, include="attn1", exclude="to_out, middle")) == [
        "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    ]


def test_include_asks_among_the_usual_layers_and_all_makes_it_every_layer():
    with pytest.raises(SettingError):
        chosen(UNet(), SD15, include="in_layers")
    assert len(chosen(UNet(), SD15, layers="all", include="in_layers")) == 4


@pytest.mark.parametrize("patterns", [{"include": "attn3"}, {"exclude": "*"}, {"include": "Attn1"}])
def test_patterns_that_leave_nothing_are_refused_with_names_that_there_are(patterns):
    told = f"leave none of the {len(ATTENTION)} layers.*{re.escape(', '.join(ATTENTION[:3]))}, \\.\\.\\."
    with pytest.raises(SettingError, match=told):
        chosen(UNet(), SD15, **patterns)


def test_a_network_without_blocks_is_refused_and_all_takes_it():
    family = family_of(["NewFamily"], is_flow=True)
    with pytest.raises(ModelError, match=r"No layer of the UNet is found.*'all' at LoRA Config"):
        chosen(NoBlocks(), family)
    assert chosen(NoBlocks(), family, layers="all") == {"first": 8}


def test_of_a_text_encoder_the_linear_layers_of_its_blocks():
    """Patterns and conv_dim are of the diffusion model alone."""
    config = LoraConfig(dim=8, include="nothing", conv_dim=2)
    assert text_encoder_layers(T5(), "t5xxl", config) == {
        f"transformer.encoder.block.{block}.layer.{place}.{layer}": 8
        for block in range(2)
        for place, layer in enumerate(("SelfAttention", "DenseReluDense"))
    }


def test_what_sees_pictures_in_a_text_encoder_is_left_out():
    """Captions do not reach it: its LoRA would stay zero."""
    seeing = text_encoder_layers(SeesPictures(), "qwen25_7b", LoraConfig())
    assert seeing == text_encoder_layers(T5(), "qwen25_7b", LoraConfig())


def test_a_text_encoder_without_blocks_is_refused_by_its_name():
    with pytest.raises(ModelError, match="No layer of the text encoder gemma2_2b is found"):
        text_encoder_layers(NoBlocks(), "gemma2_2b", LoraConfig())
