"""A CLIP for each family of `table.py`, with random weights, as wide as its diffusion model expects.

Left out is byt5, with which HunyuanImage21 and HunyuanVideo15 read words in quotation marks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models_base
import torch
from comfy.text_encoders import (
    aura_t5,
    cosmos,
    flux,
    hidream,
    hunyuan_image,
    hunyuan_video,
    hydit,
    lt,
    lumina2,
    omnigen2,
    pixart_t5,
    qwen_image,
    qwen_vl,
    sd2_clip,
    sd3_clip,
    wan,
    z_image,
)
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .configs import CLIP_G, CLIP_L, SD3_WIDTH, WIDTH
from .models import random_weights
from .tokenizers import bytes_of_mistral, letters_of_gemma, letters_of_t5

VOCABULARY = 256  # the real ones would be most of a tiny encoder


class FoldedEmbedding(comfy.ops.manual_cast.Embedding):
    """Embeddings for every token of a real tokenizer: those with equal remainders share one."""

    def forward(self, tokens: Tensor, **options) -> Tensor:
        return super().forward(tokens % self.num_embeddings, **options)


@dataclass(frozen=True)
class TinyEncoder:
    tokenizer: Callable
    model: Callable
    configs: dict[str, dict]  # of each part, by ComfyUI's name
    tokenizer_data: Callable[[], dict] = dict  # what the tokenizer takes from a checkpoint


def _clip(width: int) -> dict:
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,  # one more than those that SDXL leaves out
    }


def _t5(width: int) -> dict:
    return {
        "d_model": width,
        "d_kv": 8,
        "num_heads": 2,
        "d_ff": 32,
        "num_layers": 2,
        "vocab_size": VOCABULARY,
    }


def _language_model(layers: int) -> dict:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,  # of 128 channels each, which cannot be changed
        "num_key_value_heads": 1,
        "vocab_size": VOCABULARY,
    }


L, G, T5 = {"clip_l": _clip(CLIP_L)}, {"clip_g": _clip(CLIP_G)}, {"t5xxl": _t5(WIDTH)}

ENCODERS: dict[str, TinyEncoder] = {
    "SD15": TinyEncoder(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel, L),
    "SD20": TinyEncoder(sd2_clip.SD2Tokenizer, sd2_clip.SD2ClipModel, {"clip_h": _clip(CLIP_L)}),
    "SDXL": TinyEncoder(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel, L | G),
    "SDXLRefiner": TinyEncoder(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLRefinerClipModel, G),
    "Stable_Cascade_C": TinyEncoder(
        comfy.sdxl_clip.StableCascadeTokenizer, comfy.sdxl_clip.StableCascadeClipModel, G
    ),
    "SD3": TinyEncoder(sd3_clip.SD3Tokenizer, sd3_clip.sd3_clip(), L | G | {"t5xxl": _t5(SD3_WIDTH)}),
    "AuraFlow": TinyEncoder(aura_t5.AuraT5Tokenizer, aura_t5.AuraT5Model, {"pile_t5xl": _t5(WIDTH)}),
    "PixArtAlpha": TinyEncoder(pixart_t5.PixArtTokenizer, pixart_t5.pixart_te(), T5),
    "HunyuanDiT": TinyEncoder(
        hydit.HyditTokenizer,
        hydit.HyditModel,
        {"hydit_clip": _clip(WIDTH) | {"vocab_size": VOCABULARY}, "mt5xl": _t5(WIDTH)},
        lambda: {"mt5xl.spiece_model": letters_of_t5()},
    ),
    "Flux": TinyEncoder(flux.FluxTokenizer, flux.flux_clip(), L | T5),
    "Flux2": TinyEncoder(
        flux.Flux2Tokenizer,
        flux.flux2_te(),
        {"mistral3_24b": _language_model(30)},  # it returns the outputs of layers 10, 20 and 30
        lambda: {"tekken_model": bytes_of_mistral()},
    ),
    "Lumina2": TinyEncoder(
        lumina2.LuminaTokenizer,
        lumina2.te(),
        {"gemma2_2b": _language_model(3)},
        lambda: {"spiece_model": letters_of_gemma()},
    ),
    "ZImage": TinyEncoder(z_image.ZImageTokenizer, z_image.te(), {"qwen3_4b": _language_model(3)}),
    "QwenImage": TinyEncoder(
        qwen_image.QwenImageTokenizer, qwen_image.te(), {"qwen25_7b": _language_model(2)}
    ),
    "HiDream": TinyEncoder(
        hidream.HiDreamTokenizer, hidream.hidream_clip(), L | G | T5 | {"llama": _language_model(2)}
    ),
    "Omnigen2": TinyEncoder(omnigen2.Omnigen2Tokenizer, omnigen2.te(), {"qwen25_3b": _language_model(2)}),
    "HunyuanImage21": TinyEncoder(
        hunyuan_image.HunyuanImageTokenizer, hunyuan_image.te(byt5=False), {"qwen25_7b": _language_model(4)}
    ),
    "CosmosT2V": TinyEncoder(cosmos.CosmosT5Tokenizer, cosmos.te(), T5),
    "WAN21_T2V": TinyEncoder(
        wan.WanT5Tokenizer, wan.te(), {"umt5xxl": _t5(WIDTH)}, lambda: {"spiece_model": letters_of_t5()}
    ),
    "HunyuanVideo": TinyEncoder(
        hunyuan_video.HunyuanVideoTokenizer,
        hunyuan_video.hunyuan_video_clip(),
        L | {"llama": _language_model(4)},  # one more than those that it leaves out
    ),
    "HunyuanVideo15": TinyEncoder(
        hunyuan_video.HunyuanVideo15Tokenizer,
        hunyuan_image.te(byt5=False),
        {"qwen25_7b": _language_model(4)},
    ),
    "LTXV": TinyEncoder(lt.LTXVT5Tokenizer, lt.ltxv_te(), T5),
}
# families with the text encoder of another one
SAME = {
    "SDXL_v": "SDXL",
    "SDXL_edm": "SDXL",
    "SSD1B": "SDXL",
    "KOALA_700M": "SDXL",
    "PixArtSigma": "PixArtAlpha",
    "FluxSchnell": "Flux",
    "Chroma": "PixArtAlpha",
    "ChromaRadiance": "PixArtAlpha",
    "HunyuanDiT1": "HunyuanDiT",
    "CosmosT2IPredict2": "CosmosT2V",
    "WAN22_T2V": "WAN21_T2V",
}


def tiny_clip(name: str, dtype: torch.dtype = torch.float32) -> comfy.sd.CLIP:
    """A CLIP for the MODEL of the same name, as ComfyUI's loader node would output it."""
    encoder = ENCODERS[SAME.get(name, name)]
    options = {f"{part}_model_config": config for part, config in encoder.configs.items()}
    target = comfy.supported_models_base.ClipTarget(encoder.tokenizer, encoder.model)
    with (
        torch.inference_mode(),
        patch.object(qwen_vl, "Qwen2VLVisionTransformer", _tiny_vision),
        patch.object(PreTrainedTokenizerBase, "from_pretrained", classmethod(_read_once)),
    ):
        clip = comfy.sd.CLIP(
            target, tokenizer_data=encoder.tokenizer_data(), model_options=options | {"dtype": dtype}
        )
        _shrink_vocabularies(clip)
        clip.load_sd(random_weights(clip.cond_stage_model), full_model=True)
    return clip


def _tiny_vision(hidden_size: int, vision=qwen_vl.Qwen2VLVisionTransformer, **options):
    """QwenImage's encoder of pictures, whose width its encoder of text fixes."""
    return vision(hidden_size=32, num_heads=2, num_layers=1, intermediate_size=32, **options)


@cache
def _read_once(cls, path: str, read=PreTrainedTokenizerBase.from_pretrained.__func__):
    """A tokenizer of transformers: reading them takes longer than all else here."""
    return read(cls, path)


def _shrink_vocabularies(clip: comfy.sd.CLIP) -> None:
    for module in clip.cond_stage_model.modules():
        if isinstance(module, comfy.sd1_clip.SDClipModel):
            weight = module.transformer.get_input_embeddings().weight
            small = FoldedEmbedding(VOCABULARY, weight.shape[1], dtype=weight.dtype, device=weight.device)
            module.transformer.set_input_embeddings(small.requires_grad_(False))
