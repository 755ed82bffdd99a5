"""Pictures and captions encoded once, before the run."""

from collections.abc import Sequence

from ..trainer.data.dataset import Dataset
from ..trainer.data.latents import LatentPicture
from .inference_tensors import trainable
from .loading import load_together, unload
from .progress import Progress
from .text_encoder import HostTextEncoder
from .vae import count_new, encode_pictures


def encode_dataset(
    model, vae, dataset: Dataset, progress: Progress
) -> tuple[list[LatentPicture], list[LatentPicture]]:
    """Latents of the training and of the held-out pictures. The VAE is off the device afterwards."""
    everything = [*dataset.pictures, *dataset.heldout]
    if new := count_new(vae, dataset, everything):
        progress.phase("encoding pictures", new)
    latents = encode_pictures(model, vae, dataset, everything, progress.tick)
    unload(vae.patcher)
    count = len(dataset.pictures)
    return latents[:count], latents[count:]


def remember_captions(
    text_encoder: HostTextEncoder, pictures: Sequence[LatentPicture], progress: Progress
) -> None:
    """Encodes the captions for a text encoder that does not train, which is off the device afterwards."""
    captions = dict.fromkeys(picture.caption for picture in pictures)
    progress.phase("encoding captions", len(captions))
    load_together([text_encoder.clip.patcher], 0)
    with trainable([text_encoder.module]), text_encoder.ready():
        text_encoder.remember(captions, progress.tick)
    unload(text_encoder.clip.patcher)
