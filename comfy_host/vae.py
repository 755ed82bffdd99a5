"""Pictures to latents, with the host's VAE."""

from collections.abc import Callable, Sequence

import torch

from ..trainer.buckets import fit_to_bucket
from ..trainer.dataset import Dataset, Picture
from ..trainer.errors import ModelError
from ..trainer.latents import LatentPicture
from ..trainer.pictures import read_picture
from .images import to_image


def encode_pictures(
    model, vae, dataset: Dataset, pictures: Sequence[Picture], on_picture: Callable[[int], None]
) -> list[LatentPicture]:
    """Latents of each picture at the size of its bucket, scaled as `model` wants them, on its device.

    Calls `on_picture` after each, with their number so far.
    """
    encoded = []
    for picture in pictures:
        pixels = to_image(fit_to_bucket(read_picture(picture.path), dataset.bucket_of(picture)))
        latent = model.model.process_latent_in(vae.encode(pixels))
        with torch.inference_mode(False):
            latent = latent.clone()[0].to(model.load_device, torch.float32)  # what the executor makes is an inference tensor
        channels = model.model.latent_format.latent_channels
        if latent.dim() != 3 or latent.shape[0] != channels or not latent.isfinite().all():
            raise ModelError(
                f"The VAE made of {picture.path.name} a latent of shape {tuple(latent.shape)}, "
                f"{'finite' if latent.isfinite().all() else 'not finite'}. Expected finite [{channels}, height, width]. "
                "Connect the VAE of the same checkpoint; start ComfyUI with --fp32-vae if it gives numbers that are not finite."
            )
        encoded.append(LatentPicture(latent, picture.caption, picture.repeats))
        on_picture(len(encoded))
    return encoded
