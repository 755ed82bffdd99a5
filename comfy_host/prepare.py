"""What is trained on what: refusals, pictures and captions encoded, the network loaded."""

from dataclasses import dataclass

import torch

from ..trainer.adapters.lora import lora_values
from ..trainer.data.dataset import Dataset
from ..trainer.data.latents import LatentPicture
from ..trainer.errors import ModelError
from ..trainer.families import Family
from ..trainer.optim.registry import refuse_missing_package
from ..trainer.precision import Precision, choose_precision
from ..trainer.run.memory import StepMemory
from ..trainer.settings.lora import LoraConfig
from ..trainer.settings.optimizer import OptimizerConfig
from ..trainer.settings.run import RunConfig
from .compute_dtype import compute_dtype, computing_in
from .inference_tensors import trainable
from .layers import TargetLayer, target_layers
from .loading import load_together, room_beside, unload, without_dynamic_loading
from .model_kind import family, refuse_quantized
from .network import HostNetwork
from .progress import Progress
from .text_encoder import HostTextEncoder
from .vae import count_new, encode_pictures


@dataclass(frozen=True)
class Job:
    """What Train was asked to do."""

    dataset: Dataset
    lora: LoraConfig
    recipe: OptimizerConfig
    run: RunConfig
    base_model: str  # name of the checkpoint, for the LoRA's metadata


@dataclass(frozen=True)
class Prepared:
    """What is trained on what, and how. The network is loaded."""

    family: Family
    network: HostNetwork
    layers: list[TargetLayer]
    pictures: list[LatentPicture]
    heldout: list[LatentPicture]
    precision: Precision
    checkpointing: bool


def prepared_for(model, clip, vae, job: Job, progress: Progress) -> Prepared:
    """Everything that does not train is done with, and off the device, before what does is loaded."""
    chosen = family(model)
    _refuse_missing(clip, vae)
    job.recipe.refuse_stopping(job.lora.parts)
    refuse_missing_package(job.recipe)
    precision = choose_precision(job.run.precision, compute_dtype(model), model.load_device)
    model, clip = without_dynamic_loading(computing_in(model, precision.dtype), clip)
    refuse_quantized(model)
    pictures, heldout = _encode(model, vae, job.dataset, progress)
    unload(vae.patcher)
    text_encoder = HostTextEncoder(clip, trains=job.lora.train_text_encoder)
    if not text_encoder.trains:
        _remember_captions(text_encoder, [*pictures, *heldout], model.load_device, progress)
        unload(clip.patcher)
    network = HostNetwork(model, text_encoder)
    layers = target_layers(model, clip, chosen, job.lora)
    memory = StepMemory.of(
        job.run, precision, pictures, chosen, lora_values([layer.module for layer in layers], job.lora.dim)
    )
    checkpointing = memory.wants_checkpointing(job.run.checkpointing, room_beside(network.patchers))
    progress.phase("loading the model")
    load_together(network.patchers, memory.bytes(checkpointing))
    return Prepared(chosen, network, layers, pictures, heldout, precision, checkpointing)


def _refuse_missing(clip, vae) -> None:
    """The host's loader hands on None for a part that a checkpoint lacks."""
    missing = [name for name, part in (("text encoder (CLIP)", clip), ("VAE", vae)) if part is None]
    if missing:
        what = " and no ".join(missing)
        raise ModelError(
            f"The checkpoint has no {what}. Connect one from Load CLIP or Load VAE, or load a whole"
            " checkpoint."
        )


def _encode(
    model, vae, dataset: Dataset, progress: Progress
) -> tuple[list[LatentPicture], list[LatentPicture]]:
    """Latents of the training and of the held-out pictures."""
    everything = [*dataset.pictures, *dataset.heldout]
    if new := count_new(vae, dataset, everything):
        progress.phase("encoding pictures", new)
    latents = encode_pictures(model, vae, dataset, everything, progress.tick)
    return latents[: len(dataset.pictures)], latents[len(dataset.pictures) :]


def _remember_captions(
    text_encoder: HostTextEncoder, pictures: list[LatentPicture], device: torch.device, progress: Progress
) -> None:
    """Encodes the captions once, for a text encoder that does not train, in what the host encodes a prompt
    in.
    """
    captions = dict.fromkeys(picture.caption for picture in pictures)
    progress.phase("encoding captions", len(captions))
    load_together([text_encoder.clip.patcher], 0)
    with trainable([text_encoder.module]), text_encoder.ready():
        text_encoder.remember(captions, device, progress.tick)
