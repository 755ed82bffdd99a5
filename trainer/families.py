"""What is a custom of each model family, and nothing that ComfyUI's own objects tell.

A family is looked up by the class of ComfyUI's `model_config` and the classes that it derives from. A family
without a row trains by the generic row. CONTRIBUTING.md shows how to add a row.

Sources: kohya-ss/sd-scripts 48d368f (docs/*_train_network.md, library/sai_model_spec.py) and
kohya-ss/musubi-tuner 30c658c (docs, utils/sai_model_spec.py), unless a row says otherwise. Most of these
trainers also adapt the modulation layers; we leave them out, as the trainers for Qwen-Image, Z-Image, Anima
and Wan mean to.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .distribution import LOGIT_NORMAL, UNIFORM, Distribution, TokenShift

# The linear layers and 1x1 projections of a UNet's transformer blocks, which kohya's sd-scripts adapts: 192
# of SD 1.5, 722 of SDXL.
UNET_ATTENTION = re.compile(
    r"(?:transformer_blocks\.\d+\.(?:attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2))"
    r"|\.proj_(?:in|out))$"
)
# Layers that make scales and shifts of the noise level and the pooled text, and the noise level's embedding,
# which Cosmos has in a list as if it were blocks; HunyuanDiT's links over blocks.
MODULATION = r"img_mod|txt_mod|modulation|adaln|\.mod[cfx]{1,2}\.|\.norm1\.linear|t_embedder|skip_linear"


def _left_out(*more: str) -> re.Pattern[str]:
    return re.compile("|".join((MODULATION, *more)), re.IGNORECASE)


_MODULATION = _left_out()


@dataclass(frozen=True)
class FileNames:
    """How LoRA files name a family, and its layers."""

    architecture: str  # modelspec.architecture, without "/lora"
    base_version: str  # ss_base_model_version
    diffusers: bool = False  # the UNet's layers are named as diffusers does, not by the raw checkpoint


@dataclass(frozen=True)
class StepBytes:
    """What is saved for backward per latent pixel of a picture, in 16 bit. Rough: "auto" decides by it."""

    activations: int
    checkpointed: int  # with gradient checkpointing


@dataclass(frozen=True)
class Family:
    """A model family: what people expect of its training, and how files name it."""

    name: str  # as people call it
    resolution: int  # side of the square, in pixels, that it was made for
    noise: Distribution
    files: FileNames
    # Names of the adapted layers below the network; None: every linear layer inside its blocks, except
    # those that are left out.
    layers: re.Pattern[str] | None = None
    leaves_out: re.Pattern[str] = _MODULATION
    text_encoders: tuple[str, ...] = ()  # that train by default
    guidance: float | None = None  # while training, for networks that were taught to guide themselves
    draws_beside_nothing: bool = False  # takes an empty picture beside the noise when it draws from text
    step: StepBytes = StepBytes(1_500_000, 250_000)
    warning: str = ""  # for every run
    has_row: bool = True


SD_SCRIPTS, MUSUBI, OFFICIAL = "kohya's sd-scripts", "kohya's musubi-tuner", "the authors' own training code"
_TABLE = Distribution(UNIFORM, custom=SD_SCRIPTS)
_BY_TOKENS = Distribution(LOGIT_NORMAL, by_tokens=TokenShift(), custom=SD_SCRIPTS)


def _shifted(shift: float, custom: str) -> Distribution:
    return Distribution(LOGIT_NORMAL, shift=shift, custom=custom)


_SD15 = Family(
    "SD 1.5",
    512,
    _TABLE,
    FileNames("stable-diffusion-v1", "sd_v1", diffusers=True),
    layers=UNET_ATTENTION,
    text_encoders=("clip_l",),
    # Measured on a CPU in bf16: 190,000 and 120,000. Autocast on a GPU saves the outputs of norms in fp32,
    # which doubles most of it.
    step=StepBytes(400_000, 150_000),
)
_SDXL = replace(
    _SD15,
    name="SDXL",
    resolution=1024,
    files=FileNames("stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
    text_encoders=("clip_l", "clip_g"),
    step=StepBytes(900_000, 200_000),
)
_FLUX = Family("Flux", 1024, _BY_TOKENS, FileNames("flux-1-dev", "flux1"), guidance=1.0)
_LUMINA2 = Family("Lumina 2", 1024, replace(_BY_TOKENS, custom=OFFICIAL), FileNames("lumina-2", "lumina2"))
_HUNYUAN_VIDEO = Family(
    "HunyuanVideo",
    720,
    _shifted(7.0, MUSUBI),
    FileNames("hunyuan-video", "hunyuan_video"),
    leaves_out=_left_out(r"txt_in\."),  # refines the text before the blocks that trainers adapt
    guidance=1.0,
)

_PIXART = Family(
    "PixArt", 1024, replace(_TABLE, custom="OneTrainer"), FileNames("pixart-alpha", "pixart_alpha")
)

FAMILIES: dict[str, Family] = {
    "SD15": _SD15,
    "SD20": replace(
        _SD15,
        name="SD 2",
        resolution=768,
        files=FileNames("stable-diffusion-v2-768-v", "sd_v2_v", diffusers=True),
        text_encoders=("clip_h",),
    ),
    "SDXL": _SDXL,
    "SDXLRefiner": replace(_SDXL, name="SDXL refiner", text_encoders=("clip_g",)),
    "SD3": Family("SD 3", 1024, _TABLE, FileNames("stable-diffusion-3-medium", "medium")),
    "Flux": _FLUX,
    "FluxSchnell": replace(
        _FLUX,
        name="Flux schnell",
        files=FileNames("flux-1-schnell", "flux1"),
        guidance=None,
        warning=(
            "Flux schnell is distilled to few steps, which training on it undoes: train on Flux dev, whose"
            " LoRAs schnell takes"
        ),
    ),
    "Flux2": Family(
        "Flux 2",
        1024,
        Distribution(LOGIT_NORMAL, by_tokens=TokenShift(patch=1), custom=MUSUBI),
        FileNames("Flux.2-dev", "flux_2_dev"),
        guidance=1.0,
    ),
    "Chroma": Family(
        "Chroma",
        1024,
        _shifted(1.0, SD_SCRIPTS),
        FileNames("chroma", "chroma"),
        leaves_out=_left_out("distilled_guidance_layer", "param_generator"),
        guidance=0.0,
    ),
    "Lumina2": _LUMINA2,
    "ZImage": replace(
        _LUMINA2,
        name="Z-Image",
        noise=_shifted(2.0, MUSUBI),
        files=FileNames("Z-Image", "z_image"),
        leaves_out=_left_out("_refiner"),
    ),
    "QwenImage": Family("Qwen-Image", 1328, _shifted(2.2, MUSUBI), FileNames("Qwen-Image", "qwen_image")),
    "WAN21_T2V": Family("Wan", 640, _shifted(3.0, MUSUBI), FileNames("wan2.1", "wan")),
    "HunyuanVideo": _HUNYUAN_VIDEO,
    "HunyuanVideo15": replace(
        _HUNYUAN_VIDEO,
        name="HunyuanVideo 1.5",
        noise=_shifted(3.0, OFFICIAL),
        files=FileNames("hunyuan-video-1.5", "hunyuan_video_1_5"),
        guidance=None,
        draws_beside_nothing=True,
    ),
    "HunyuanImage21": replace(
        _HUNYUAN_VIDEO,
        name="HunyuanImage 2.1",
        resolution=2048,
        noise=Distribution(UNIFORM, shift=5.0, custom=SD_SCRIPTS),
        files=FileNames("hunyuan-image-2.1", "hunyuan-image-2.1"),
        guidance=None,
    ),
    # tdrussell/diffusion-pipe 8f83dbf for these three
    "AuraFlow": Family("AuraFlow", 1024, _shifted(1.0, "diffusion-pipe"), FileNames("auraflow", "auraflow")),
    "HiDream": Family(
        "HiDream",
        1024,
        _shifted(1.0, "diffusion-pipe"),
        FileNames("hidream-i1", "hidream_i1"),
        # Its experts, of which each token is sent to some, as ostris' ai-toolkit 27a03a9 does; not those that
        # all tokens share. And what fits each text layer's width, once before the blocks.
        leaves_out=_left_out(r"ff_i\.experts", r"ff_i\.gate", "caption_projection"),
    ),
    "CosmosT2IPredict2": Family(
        "Cosmos Predict2",
        1024,
        _shifted(1.0, "diffusion-pipe"),
        FileNames("cosmos-predict2", "cosmos_p2"),
    ),
    "Anima": Family(
        "Anima",
        1024,
        _shifted(1.0, SD_SCRIPTS),
        FileNames("anima-preview", "anima"),
        leaves_out=_left_out("llm_adapter"),
    ),
    "Krea2": Family("Krea 2", 1024, _shifted(2.5, MUSUBI), FileNames("Krea-2", "krea2")),
    "Omnigen2": Family(
        "OmniGen2", 1024, replace(_BY_TOKENS, custom=OFFICIAL), FileNames("omnigen2", "omnigen2")
    ),
    # Nerogar/OneTrainer 23df383
    "PixArtAlpha": _PIXART,
    "PixArtSigma": replace(_PIXART, files=FileNames("pixart-sigma", "pixart_sigma")),
    "HunyuanDiT": Family(
        "HunyuanDiT", 1024, replace(_TABLE, custom="the model"), FileNames("hunyuan-dit", "hunyuan_dit")
    ),
}


def family_of(classes: Iterable[str], is_flow: bool) -> Family:
    """The family of a model whose `model_config` is of these classes, the most derived one first.

    Without a row a flow is trained as most flows are, and any other network as it was made.
    """
    classes = list(classes)
    for name in classes:
        if name in FAMILIES:
            return FAMILIES[name]
    noise = _shifted(1.0, "no trainer of this family") if is_flow else replace(_TABLE, custom="")
    return Family(classes[0], 1024, noise, FileNames(classes[0], classes[0]), has_row=False)
