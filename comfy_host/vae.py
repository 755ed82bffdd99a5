"""Pictures to latents, with the host's VAE."""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..trainer.data.buckets import fit_to_bucket
from ..trainer.data.dataset import Dataset, Picture
from ..trainer.data.fingerprint import content_digest
from ..trainer.data.latents import LatentPicture
from ..trainer.data.pictures import read_picture
from ..trainer.errors import ModelError
from .images import to_image

# What the last run with each VAE encoded: a workflow that is queued again, with other settings, starts at
# once.
_remembered: WeakKeyDictionary[nn.Module, dict[tuple, Tensor]] = WeakKeyDictionary()


def encode_pictures(
    model, vae, dataset: Dataset, pictures: Sequence[Picture], on_picture: Callable[[int], None]
) -> list[LatentPicture]:
    """Latents of each picture at the size of its bucket, scaled as `model` wants them, on its device.

    Pictures that the last run with this VAE had are not encoded again. Calls `on_picture` after each of the
    others, with their number so far.
    """
    keys = [_key(dataset, picture) for picture in pictures]
    known, channels = _remembered.get(vae.first_stage_model, {}), model.model.latent_format.latent_channels
    latents = {key: known[key] for key in keys if key in known}
    known_before = len(latents)
    _remembered[vae.first_stage_model] = (
        latents  # now: a cancel or a picture that fails does not lose those before it
    )
    for picture, key in zip(pictures, keys, strict=True):
        if key not in latents:
            latents[key] = _encode(vae, picture, dataset.bucket_of(picture), channels)
            on_picture(len(latents) - known_before)
    with torch.inference_mode(False):
        scaled = [model.model.process_latent_in(latents[key].clone()).to(model.load_device) for key in keys]
    return [
        LatentPicture(latent, picture.caption, picture.repeats)
        for latent, picture in zip(scaled, pictures, strict=True)
    ]


def count_new(vae, dataset: Dataset, pictures: Sequence[Picture]) -> int:
    """How many of the pictures `encode_pictures` has to encode."""
    known = _remembered.get(vae.first_stage_model, {})
    return len({_key(dataset, picture) for picture in pictures} - known.keys())


def _key(dataset: Dataset, picture: Picture) -> tuple:
    return content_digest(picture.path), dataset.bucket_of(picture)


def _encode(vae, picture: Picture, bucket: tuple[int, int], channels: int) -> Tensor:
    """The VAE's own latent [channels, height, width], fp32, in host memory."""
    encoded = vae.encode(to_image(fit_to_bucket(read_picture(picture.path), bucket)))
    with torch.inference_mode(False):
        latent = encoded.clone()[0].to("cpu", torch.float32)  # what the executor makes is an inference tensor
    if latent.dim() != 3 or latent.shape[0] != channels or not latent.isfinite().all():
        raise ModelError(
            f"The VAE made of {picture.path.name} a latent of shape {tuple(latent.shape)},"
            f" {'finite' if latent.isfinite().all() else 'not finite'}. Expected finite [{channels}, height,"
            " width]. Connect the VAE of the same checkpoint; start ComfyUI with --fp32-vae if it gives"
            " numbers that are not finite."
        )
    return latent
