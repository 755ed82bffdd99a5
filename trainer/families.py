"""Which layers of a model family a LoRA adapts.

They are the ones that kohya's sd-scripts adapts, so that files mean the same everywhere.

SD 1.5: 192 layers of the UNet (every linear layer and 1x1 projection of its transformer blocks) and 72 of the
text encoder (12 x 6). If all its layers are adapted, the UNet has 282.
"""

import re
from dataclasses import dataclass

from .errors import ModelError


@dataclass(frozen=True)
class Family:
    """A model family that can be trained: which layers, and how files name it."""

    name: str
    unet_layers: re.Pattern[str]  # matches module names below the UNet
    text_layers: re.Pattern[str]  # matches module names below the text encoder
    unet_blocks: re.Pattern[str]  # names below the UNet of the blocks for gradient checkpointing
    text_blocks: re.Pattern[str]  # the same below the text encoder
    text_prefixes: dict[str, str]  # text model -> prefix of its layers in LoRA files
    diffusers_names: bool  # files name UNet layers as diffusers does, not by the raw checkpoint
    activation_bytes: int  # saved for backward per latent pixel of a picture, in 16 bit
    checkpointed_bytes: int  # the same with gradient checkpointing
    architecture: str  # modelspec.architecture, without "/lora"
    base_version: str  # ss_base_model_version


_TRANSFORMER_LAYERS = re.compile(
    r"(?:transformer_blocks\.\d+\.(?:attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2))"
    r"|\.proj_(?:in|out))$"
)
# The members of the sequences that the UNet's blocks are.
_UNET_BLOCKS = re.compile(r"^(?:(?:input_blocks|output_blocks)\.\d+\.\d+|middle_block\.\d+)$")
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
        # Measured on a CPU in bf16: 190,000 and 120,000. Autocast on a GPU saves the outputs of norms in
        # fp32, which doubles most of it.
        activation_bytes=400_000,
        checkpointed_bytes=150_000,
        architecture="stable-diffusion-v1",
        base_version="sd_v1",
    ),
}


def family_of(comfyui_class: str) -> Family:
    """The family that ComfyUI calls by this class name, such as "SD15".

    Raises `ModelError` that names the families that are supported.
    """
    if comfyui_class not in FAMILIES:
        supported = ", ".join(family.name for family in FAMILIES.values())
        raise ModelError(
            f"This model is of the family {comfyui_class}, which cannot be trained yet. Expected a checkpoint"
            f" of: {supported}. Load such a checkpoint in the Load Checkpoint node."
        )
    return FAMILIES[comfyui_class]
