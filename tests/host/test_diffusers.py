"""LoRA files of SD 1.5 and SDXL mean the same in Hugging Face's diffusers as in ComfyUI.

Their weights are random, and their names those of the real models: diffusers goes by names and shapes.
"""

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.diffusers

SD15_UNET = {
    "block_out_channels": (32, 32, 32, 32),
    "layers_per_block": 2,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,  # it means how many heads
}
SDXL_UNET = {
    "block_out_channels": (64, 64, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 1, 2],
    "cross_attention_dim": 96,
    "attention_head_dim": 1,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 64 + 6 * 256,
}
PARTS = {  # by diffusers' names
    "SD15": {"unet": "unet", "text_encoder": "clip_l"},
    "SDXL": {"unet": "unet", "text_encoder": "clip_l", "text_encoder_2": "clip_g"},
}
every_file = pytest.mark.parametrize(
    "family, file", [(family, file) for family in PARTS for file in ("usual", "with convolutions")]
)


@pytest.fixture(scope="module")
def files(found_by) -> Path:
    return Path(found_by("lora_files_of_unets.py")["folder"])


def weights(files, family, state) -> dict:
    """Those of all networks as ComfyUI has them: "before", or with a file's LoRA."""
    return {
        f"{name}.{key}": value
        for name, part in PARTS[family].items()
        for key, value in load_file(files / family / state / f"{part}.safetensors").items()
    }


def pipeline(files, family):
    """diffusers' pipeline of the family with the weights that ComfyUI has before a LoRA."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    before = weights(files, family, "before")
    parts = {"vae": None, "tokenizer": None, "unet": unet(family), "scheduler": DDIMScheduler()}
    parts |= {"text_encoder": text_encoder(files, family, "clip_l", projected=False)}
    if family == "SDXL":
        parts |= {
            "text_encoder_2": text_encoder(files, family, "clip_g", projected=True),
            "tokenizer_2": None,
        }
        found = StableDiffusionXLPipeline(**parts)
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        found = StableDiffusionPipeline(**parts)
    for name in PARTS[family]:
        network = getattr(found, name)
        network.load_state_dict({key: before[f"{name}.{key}"] for key in network.state_dict()})
    return found


def unet(family):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**(SDXL_UNET if family == "SDXL" else SD15_UNET))


def text_encoder(files, family, part, projected):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    shapes = load_file(files / family / "before" / f"{part}.safetensors")
    words, width = shapes["text_model.embeddings.token_embedding.weight"].shape
    inside = "text_model.encoder.layers.{}.mlp.fc1.weight"
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=len(shapes[inside.format(0)]),
        num_hidden_layers=sum(inside.format(layer) in shapes for layer in range(100)),
        num_attention_heads=2,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def merged_by_diffusers(files, family, file) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers is made for other versions too
        found = pipeline(files, family)
        found.load_lora_weights(files / family, weight_name=f"{file}.safetensors")
        found.fuse_lora()
        found.unload_lora_weights()
    return {
        f"{name}.{key}": value
        for name in PARTS[family]
        for key, value in getattr(found, name).state_dict().items()
    }


@every_file
def test_diffusers_takes_every_layer_and_makes_of_it_what_comfyui_makes(files, family, file):
    before, comfyui = weights(files, family, "before"), weights(files, family, file)
    diffusers = merged_by_diffusers(files, family, file)
    changed = {name for name, value in diffusers.items() if not torch.equal(value, before[name])}
    in_file = sum(key.endswith(".alpha") for key in load_file(files / family / f"{file}.safetensors"))
    assert len(changed) == in_file > 150
    for name, value in diffusers.items():
        assert torch.allclose(value, comfyui[name], rtol=1e-6, atol=1e-7), name
