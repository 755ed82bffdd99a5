"""A VAE of a few channels for tiny models of pictures, with random weights: ComfyUI's own TAESD."""

import comfy.sd
import torch
from comfy.taesd.taesd import TAESD

from .models import random_weights


def tiny_vae(channels: int):
    """A VAE as a loader node outputs it, whose latents have so many channels."""
    with torch.inference_mode():
        return comfy.sd.VAE(sd=random_weights(TAESD(latent_channels=channels)))
