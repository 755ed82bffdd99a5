"""The tiny model of each family: what ComfyUI's detection would say of the real one, but narrow and shallow.

Plain data, importable without ComfyUI. `models.py` makes models of it.

Left out are classes that make no pictures from text: StableAudio and ACEStep (sound), Hunyuan3Dv2,
Hunyuan3Dv2_1 and Hunyuan3Dv2mini (shapes), SVD_img2vid, SV3D_u, SV3D_p and Stable_Zero123 (their only
condition is a picture), SD_X4Upscaler, HunyuanImage21Refiner and HunyuanVideo15_SR_Distilled (they enlarge or
refine a picture), Stable_Cascade_B (decodes stage C's latents), SD21UnclipL and SD21UnclipH (pictures from
the embedding of a picture), CosmosI2V, CosmosI2VPredict2, HunyuanVideoI2V, HunyuanVideoSkyreelsI2V,
WAN21_FunControl2V, WAN21_Camera, WAN22_Camera, WAN22_S2V, WAN21_HuMo and WAN22_Animate (video from a picture,
a sound or a pose; WAN21_I2V stands for them below). And GenmoMochi, which asserts its real width, and
KOALA_1B, which is one block deeper than KOALA_700M.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import configs
from .configs import CLIP_G, CLIP_L, SD3_WIDTH, WIDTH


@dataclass(frozen=True)
class TinyText:
    """What the text encoder of a family returns for one caption."""

    channels: int
    tokens: int  # of one short caption, with padding
    padding: int = 0  # so many of the tokens, at the end
    pooled: int | None = None  # channels of the pooled output
    mask: bool = False  # it returns an attention mask, 0 at padding
    zeroed: bool = False  # embeddings of padding are zeros
    others: Mapping[str, tuple] = field(default_factory=dict)  # shapes; None stands for the number of tokens


@dataclass(frozen=True)
class TinyFamily:
    config_class: str  # in comfy.supported_models
    text: TinyText
    config: Mapping  # `unet_config`
    latent_size: int = 16  # height and width of its latents in tests
    markers: tuple[str, ...] = ()  # keys without weights, which tell ComfyUI what the model predicts


ONE_CLIP = TinyText(CLIP_L, tokens=77, pooled=CLIP_L)
LARGE_CLIP = TinyText(CLIP_G, tokens=77, pooled=CLIP_G)
TWO_CLIPS = TinyText(CLIP_L + CLIP_G, tokens=77, pooled=CLIP_G)
THREE_ENCODERS = TinyText(SD3_WIDTH, tokens=154, pooled=CLIP_L + CLIP_G)
CLIP_AND_T5 = TinyText(WIDTH, tokens=256, pooled=CLIP_L)
UNPADDED = TinyText(WIDTH, tokens=20)
LANGUAGE_MODEL = TinyText(WIDTH, tokens=20, mask=True)
PADDED_T5 = TinyText(WIDTH, tokens=256, padding=128, zeroed=True)
HUNYUAN_DIT_TEXT = TinyText(
    WIDTH,
    tokens=77,
    padding=60,
    mask=True,
    others={"conditioning_mt5xl": (256, WIDTH), "attention_mask_mt5xl": (256,)},
)
HIDREAM_TEXT = TinyText(
    WIDTH, tokens=128, pooled=CLIP_L + CLIP_G, others={"conditioning_llama3": (2, None, WIDTH)}
)
COSMOS_TEXT = TinyText(WIDTH, tokens=512, padding=490, mask=True, zeroed=True)
WAN_TEXT = TinyText(WIDTH, tokens=512, padding=490, zeroed=True)
LTXV_TEXT = TinyText(WIDTH, tokens=128, padding=110, mask=True)

# by ComfyUI's class, or by a name of our own where one class has several
FAMILIES: dict[str, TinyFamily] = {
    "SD15": TinyFamily("SD15", ONE_CLIP, configs.SD15),
    "SD20": TinyFamily("SD20", ONE_CLIP, configs.SD20),
    "SDXL": TinyFamily("SDXL", TWO_CLIPS, configs.SDXL),
    "SDXL_v": TinyFamily("SDXL", TWO_CLIPS, configs.SDXL, markers=("v_pred", "ztsnr")),
    "SDXL_edm": TinyFamily("SDXL", TWO_CLIPS, configs.SDXL, markers=("edm_mean", "edm_std")),
    "SDXLRefiner": TinyFamily("SDXLRefiner", LARGE_CLIP, configs.REFINER),
    "SSD1B": TinyFamily("SSD1B", TWO_CLIPS, configs.SSD1B),
    "KOALA_700M": TinyFamily("KOALA_700M", TWO_CLIPS, configs.KOALA),
    "Stable_Cascade_C": TinyFamily("Stable_Cascade_C", LARGE_CLIP, configs.CASCADE_C),
    "SD3": TinyFamily("SD3", THREE_ENCODERS, configs.SD3),
    "AuraFlow": TinyFamily("AuraFlow", PADDED_T5, configs.AURA),
    # its position embedding divides by zero at 32 and below
    "PixArtAlpha": TinyFamily("PixArtAlpha", UNPADDED, configs.PIXART_ALPHA, latent_size=40),
    "PixArtSigma": TinyFamily("PixArtSigma", UNPADDED, configs.PIXART_SIGMA, latent_size=40),
    "HunyuanDiT": TinyFamily("HunyuanDiT", HUNYUAN_DIT_TEXT, configs.HUNYUAN_DIT),
    "HunyuanDiT1": TinyFamily("HunyuanDiT1", HUNYUAN_DIT_TEXT, configs.HUNYUAN_DIT_1),
    "Flux": TinyFamily("Flux", CLIP_AND_T5, configs.FLUX),
    "FluxSchnell": TinyFamily("FluxSchnell", CLIP_AND_T5, configs.FLUX | {"guidance_embed": False}),
    "Flux2": TinyFamily("Flux2", TinyText(3 * WIDTH, tokens=20, mask=True), configs.FLUX2),
    "Chroma": TinyFamily("Chroma", UNPADDED, configs.CHROMA),
    "ChromaRadiance": TinyFamily("ChromaRadiance", UNPADDED, configs.RADIANCE, latent_size=64),
    "Lumina2": TinyFamily("Lumina2", LANGUAGE_MODEL, configs.LUMINA2),
    "ZImage": TinyFamily("ZImage", LANGUAGE_MODEL, configs.Z_IMAGE),
    "QwenImage": TinyFamily("QwenImage", UNPADDED, configs.QWEN_IMAGE),
    "HiDream": TinyFamily("HiDream", HIDREAM_TEXT, configs.HIDREAM),
    "Omnigen2": TinyFamily("Omnigen2", LANGUAGE_MODEL, configs.OMNIGEN2),
    "HunyuanImage21": TinyFamily("HunyuanImage21", UNPADDED, configs.HUNYUAN_IMAGE),
    "CosmosT2IPredict2": TinyFamily("CosmosT2IPredict2", COSMOS_TEXT, configs.PREDICT2),
    # these make videos, of which a picture is one frame
    "CosmosT2V": TinyFamily("CosmosT2V", COSMOS_TEXT, configs.COSMOS),
    "WAN21_T2V": TinyFamily("WAN21_T2V", WAN_TEXT, configs.WAN),
    "WAN22_T2V": TinyFamily("WAN22_T2V", WAN_TEXT, configs.WAN | {"in_dim": 48, "out_dim": 48}),
    "HunyuanVideo": TinyFamily(
        "HunyuanVideo", TinyText(WIDTH, tokens=20, pooled=CLIP_L), configs.HUNYUAN_VIDEO
    ),
    "LTXV": TinyFamily("LTXV", LTXV_TEXT, configs.LTXV),
}
# models that are given a picture beside the text: a trainer for pictures from text has to refuse them
EDITORS: dict[str, TinyFamily] = {
    "SD15_inpaint": TinyFamily("SD15", ONE_CLIP, configs.SD15 | {"in_channels": 9}),
    "SDXL_instructpix2pix": TinyFamily("SDXL_instructpix2pix", TWO_CLIPS, configs.SDXL | {"in_channels": 8}),
    "LotusD": TinyFamily("LotusD", ONE_CLIP, configs.LOTUS),
    "FluxInpaint": TinyFamily("FluxInpaint", CLIP_AND_T5, configs.FLUX | {"in_channels": 96}),
    # it also makes videos from text alone: ComfyUI gives it zeros then
    "HunyuanVideo15": TinyFamily("HunyuanVideo15", UNPADDED, configs.HUNYUAN_VIDEO_15),
    "WAN21_I2V": TinyFamily("WAN21_I2V", WAN_TEXT, configs.WAN | {"model_type": "i2v", "in_dim": 36}),
    "WAN21_Vace": TinyFamily(
        "WAN21_Vace", WAN_TEXT, configs.WAN | {"model_type": "vace", "vace_layers": 1, "vace_in_dim": 96}
    ),
}

# Networks that write over what a linear layer has read (`x += attention(x)`): they have no right gradients.
WRITE_OVER = {"LTXV"}
