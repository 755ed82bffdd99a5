"""Pictures to latents, with ComfyUI's VAE."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor, nn

from ..trainer.data.buckets import fit_to_bucket, framing_of
from ..trainer.data.dataset import Dataset, Picture
from ..trainer.data.fingerprint import content_digest
from ..trainer.data.latents import LatentPicture
from ..trainer.data.pictures import read_picture
from ..trainer.errors import DatasetError, ModelError
from .images import to_image

# What the last run with each VAE encoded, so that a workflow that is queued again with other settings starts
# at once.
_remembered: WeakKeyDictionary[nn.Module, dict[tuple, Tensor]] = WeakKeyDictionary()


def encode_pictures(
    model, vae, dataset: Dataset, pictures: Sequence[Picture], on_picture: Callable[[int], None]
) -> list[LatentPicture]:
    """Latents of each picture at the size of its bucket, scaled as `model` expects them, in CPU memory: those
    of a large data set would take room on the GPU that training needs.

    Pictures that the last run with this VAE had are not encoded again. `on_picture` is called after each of
    the others, with their number so far. Raises `DatasetError` for a picture that has changed since it was
    read.
    """
    keys = [_key(dataset, picture) for picture in pictures]
    known = _remembered.get(vae.first_stage_model, {})
    latents = {key: known[key] for key in keys if key in known}
    known_before = len(latents)
    # Set now, so that a cancel or a picture that fails does not lose those before it.
    _remembered[vae.first_stage_model] = latents
    for picture, key in zip(pictures, keys, strict=True):
        if key not in latents:
            encoded = vae.encode(to_image(_fitted(picture, dataset.bucket_of(picture))))
            latents[key] = _checked(encoded, picture, model.model.latent_format)
            on_picture(len(latents) - known_before)
    with torch.inference_mode(False):
        return [
            LatentPicture(
                # ComfyUI's formats of video latents want the batch's dimension
                model.model.process_latent_in(latents[key][None].clone())[0],
                picture.caption,
                picture.repeats,
                framing_of(picture.size, dataset.bucket_of(picture)),
            )
            for key, picture in zip(keys, pictures, strict=True)
        ]


def count_new(vae, dataset: Dataset, pictures: Sequence[Picture]) -> int:
    """How many of the pictures `encode_pictures` has to encode. Raises as it does."""
    known = _remembered.get(vae.first_stage_model, {})
    return len({_key(dataset, picture) for picture in pictures} - known.keys())


def _key(dataset: Dataset, picture: Picture) -> tuple:
    with _naming(picture):
        return content_digest(picture.path), dataset.bucket_of(picture)


def _fitted(picture: Picture, bucket: tuple[int, int]) -> Image.Image:
    """The picture at the size of its bucket, read again."""
    with _naming(picture):
        pixels = read_picture(picture.path)
        if pixels.size != picture.size:
            raise DatasetError("it has another size")
    return fit_to_bucket(pixels, bucket)


@contextmanager
def _naming(picture: Picture) -> Iterator[None]:
    """Names the picture that has changed since Load Dataset read it, and says what to do."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(
            f"The picture {picture.name} has changed since Load Dataset read it: {error}. Put the right"
            " file in its place, or remove it, and queue again: Load Dataset then reads the folder anew."
        ) from error


def _checked(encoded: Tensor, picture: Picture, latent_format) -> Tensor:
    """The VAE's own latent [channels, height, width], fp32, in CPU memory; of videos, one frame.

    Raises `ModelError` for one that `model` cannot be trained on.
    """
    with torch.inference_mode(False):  # what ComfyUI's executor makes is an inference tensor
        latent = encoded.clone()[0].to("cpu", torch.float32)
    finite = bool(latent.isfinite().all())
    before = (latent_format.latent_channels, *[1] * (latent_format.latent_dimensions - 2))
    if latent.shape[:-2] != before or not finite:
        raise ModelError(
            f"The VAE made of {picture.name} a latent of shape {tuple(latent.shape)},"
            f" {'finite' if finite else 'not finite'}. Expected finite"
            f" [{', '.join(map(str, before))}, height, width]. Connect the VAE of the same checkpoint;"
            " start ComfyUI with --fp32-vae if it gives numbers that are not finite."
        )
    return latent
