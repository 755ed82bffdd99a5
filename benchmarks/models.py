"""Loads a checkpoint with ComfyUI's own code.

Only a trainer's process imports this, where ComfyUI's modules can be imported.
"""

import comfy.model_management
import comfy.sd
import torch

from .order import Order


def load(order: Order) -> tuple:
    """MODEL, CLIP and VAE as ComfyUI's loader nodes make them, on their devices."""
    with torch.inference_mode():  # as its executor runs them
        model, clip, vae = comfy.sd.load_checkpoint_guess_config(
            str(order.checkpoint), output_vae=True, output_clip=True
        )[:3]
        comfy.model_management.load_models_gpu([model, clip.patcher, vae.patcher])
    return model, clip, vae
