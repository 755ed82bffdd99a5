"""What the custom node of `detection.add_custom_node` brings to a server: Load Diffusion Model loads what
`models.write_tiny_checkpoint` has written, and three nodes output a tiny MODEL, CLIP and VAE without a file.
"""

from .detection import install
from .models import ALL, load_tiny
from .table import FAMILIES
from .text_encoders import tiny_clip
from .vae import tiny_vae


class TinyModel:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"family": (list(ALL),)}}

    def load(self, family):
        return (load_tiny(family),)


class TinyCLIP:
    RETURN_TYPES = ("CLIP",)
    FUNCTION = "load"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"family": (list(FAMILIES),)}}

    def load(self, family):
        return (tiny_clip(family),)


class TinyVAE:
    RETURN_TYPES = ("VAE",)
    FUNCTION = "load"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"channels": ("INT",)}}

    def load(self, channels):
        return (tiny_vae(channels),)


install()
NODE_CLASS_MAPPINGS = {"TinyModel": TinyModel, "TinyCLIP": TinyCLIP, "TinyVAE": TinyVAE}
