"""Getting a run ready: everything encoded, the network loaded, the adapters made."""

from ..trainer.adapters.lora import lora_values
from ..trainer.run.memory import StepMemory
from .encoding import encode_dataset, remember_captions
from .job import Job
from .layers import new_adapters
from .loading import load_together, room_beside
from .network import HostNetwork
from .prepared import Prepared
from .progress import Progress
from .subject import Subject
from .text_encoder import HostTextEncoder


def prepare(subject: Subject, job: Job, progress: Progress) -> Prepared:
    """Encodes first and unloads the encoders, then loads what trains."""
    model = subject.model
    pictures, heldout = encode_dataset(model, subject.vae, job.dataset, progress)
    text_encoder = HostTextEncoder(subject.clip, subject.text_encoders)
    if not text_encoder.trains:
        remember_captions(text_encoder, [*pictures, *heldout], progress)
    network = HostNetwork(model, text_encoder, subject.family)
    values = sum(lora_values([layer.module], layer.dim) for layer in subject.layers)
    memory = StepMemory.of(job.run, subject.precision, pictures, subject.family, values)
    room = room_beside(network.patchers)
    progress.phase("loading the model")
    checkpointing = memory.wants_checkpointing(job.run.checkpointing, room)
    load_together(network.patchers, memory.bytes(checkpointing))
    adapters = new_adapters(subject.layers, job.run.seed, network)
    return Prepared(subject, network, adapters, pictures, heldout, memory, room)
