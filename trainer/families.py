"""Which layers of a model family a LoRA adapts: the ones that the established trainer adapts, so that files
mean the same everywhere.

SD 1.5: 192 layers of the UNet (every linear layer and 1x1 projection of its transformer blocks) and 72 of the
text encoder (12 x 6). With all of its layers, the UNet has 282.
"""

import re
from dataclasses import dataclass

from .errors import ModelError


@dataclass(frozen=True)
class Family:
    """A model family that can be trained: which layers, and how files name it."""

    name: str
    unet_layers: re.Pattern[str]  # of module names below the UNet
    text_layers: re.Pattern[str]  # of module names below the text encoder
    unet_blocks: re.Pattern[str]  # of modules below the UNet, which checkpointing computes twice
    text_blocks: re.Pattern[str]
    text_prefixes: dict[str, str]  # text model -> prefix of its layers in LoRA files
    diffusers_names: bool  # files name UNet layers as diffusers does, not by the raw checkpoint
    activation_bytes: int  # that a step keeps of a picture in 16 bit, for each latent pixel
    checkpointed_bytes: int  # the same with checkpointing
    architecture: str  # modelspec.architecture, without "/lora"
    base_version: str  # ss_base_model_version


_TRANSFORMER_LAYERS = re.compile(
    r"(?:transformer_blocks\.\d+\.(?:attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2))|\.proj_(?:in|out))$"
)
_UNET_BLOCKS = re.compile(
    r"^(?:(?:input_blocks|output_blocks)\.\d+\.\d+|middle_block\.\d+)$"
)  # below the sequences of blocks
_CLIP_BLOCKS = re.compile(r"text_model\.encoder\.layers\.\d+$")
_CLIP_LAYERS = re.compile(r"text_model\.encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])$")
FAMILIES = {
    "SD15": Family(
        name="SD 1.5",
        unet_layers=_TRANSFORMER_LAYERS,
        text_layers=_CLIP_LAYERS,
        unet_blocks=_UNET_BLOCKS,
        text_blocks=_CLIP_BLOCKS,
        text_prefixes={"clip_l": "lora_te_"},
        diffusers_names=True,
        # measured on a CPU in bf16: 190,000 and 120,000; autocast on a GPU keeps what norms give in fp32,
        # which doubles most of it
        activation_bytes=400_000,
        checkpointed_bytes=150_000,
        architecture="stable-diffusion-v1",
        base_version="sd_v1",
    ),
}


def family_of(host_class: str) -> Family:
    """The family for the host's name of it, as "SD15". Raises `ModelError` that names what is supported."""
    if host_class not in FAMILIES:
        supported = ", ".join(family.name for family in FAMILIES.values())
        raise ModelError(
            f"This model is of the family {host_class}, which cannot be trained yet. Expected a checkpoint"
            f" of: {supported}. Load such a checkpoint in the Load Checkpoint node."
        )
    return FAMILIES[host_class]
