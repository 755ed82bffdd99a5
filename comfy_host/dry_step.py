"""A dry step of a loaded model: that it can be trained, and what memory its run needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..trainer.layers.checkpointing import checkpointed
from ..trainer.objective.objective import Objective
from ..trainer.parts import UNET
from ..trainer.run.dry_step import notices, try_step
from ..trainer.run.memory import BYTES_PER_VALUE, StepMemory
from ..trainer.run.need import Need
from ..trainer.run.work import Work
from .job import Job
from .loading import is_loaded_in_part, out_of_memory_explained, size_of
from .prepared import Prepared
from .progress import Progress


@dataclass(frozen=True)
class Ready:
    """What can be trained now, and what is known of it."""

    work: Work
    need: Need
    notices: tuple[str, ...]  # for the person, before the first step


@contextmanager
def ready(prepared: Prepared, job: Job, objective: Objective, progress: Progress) -> Iterator[Ready]:
    """Inside the block the network trains, with gradient checkpointing where it is wanted.

    Raises `ModelError` for a network that no gradient goes through.
    """
    with prepared.entered() as free_memory, out_of_memory_explained():
        work = prepared.work(job, objective, free_memory)
        blocks = prepared.network.blocks()
        progress.phase("trying a small step")
        tried = try_step(work, blocks, prepared.subject.family.name)
        memory = prepared.memory
        if tried.activations:
            memory = replace(memory, activations=tried.activations)
        need = _need(prepared, job, memory)
        progress.phase(f"training {need}")
        with checkpointed(blocks if need.checkpointing else []):
            yield Ready(work, need, (*notices(tried, work), *_memory_notices(prepared, need)))


def _memory_notices(prepared: Prepared, need: Need) -> Iterator[str]:
    if any(map(is_loaded_in_part, prepared.network.patchers)):
        yield (
            "the model did not fit and was loaded in part, which makes training slow and takes more memory"
            " again; close what else uses the GPU, or let the run need less"
        )
    if advice := need.advice():
        yield advice


def _need(prepared: Prepared, job: Job, memory: StepMemory) -> Need:
    network = prepared.network
    # a run of text encoders alone could not do without them
    trains_text_beside = network.text_encoder.trains and job.lora.train_unet
    of_text = sum(p.numel() for one in prepared.adapters if one.part != UNET for p in (one.down, one.up))
    size = size_of(network.patchers, network.device)
    return Need(
        model=size,
        memory=memory,
        checkpointing=memory.wants_checkpointing(job.run.checkpointing, prepared.room),
        free=prepared.room + size,
        resolution=job.dataset.config.resolution,
        dim=job.lora.dim,
        text_encoders=size_of(network.patchers[1:], network.device) if trains_text_beside else 0,
        lora_of_text=BYTES_PER_VALUE * of_text if trains_text_beside else 0,
    )
