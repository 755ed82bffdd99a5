"""What is trained on what, with the network loaded."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ..trainer.adapters.hooks import attached
from ..trainer.adapters.lora import LoraAdapter
from ..trainer.data.latents import LatentPicture
from ..trainer.layers.frozen import save_memory
from ..trainer.objective.grid import LossGrid
from ..trainer.objective.objective import Objective
from ..trainer.run.memory import StepMemory
from ..trainer.run.work import Work
from ..trainer.seeds import stream
from .inference_tensors import trainable
from .job import Job
from .loading import free_cache
from .network import HostNetwork
from .subject import Subject

HELDOUT_SEED = 0  # one grid for all runs, so that their held-out losses can be compared


@dataclass(frozen=True)
class Prepared:
    """What is trained on what, and how. The network is loaded."""

    subject: Subject
    network: HostNetwork
    adapters: Sequence[LoraAdapter]
    pictures: Sequence[LatentPicture]
    heldout: Sequence[LatentPicture]
    memory: StepMemory  # by rule of thumb
    room: int  # bytes beside the model, before it was loaded

    def work(self, job: Job, objective: Objective, free_memory: Callable[[], None]) -> Work:
        """The run, as the trainer knows it. free_memory: what `entered` gives."""
        grid = LossGrid.draw(self.heldout, stream(HELDOUT_SEED, "heldout")) if self.heldout else None
        return Work(
            network=self.network,
            adapters=self.adapters,
            pictures=self.pictures,
            recipe=job.recipe,
            run=job.run,
            precision=self.subject.precision,
            heldout=grid,
            objective=objective,
            free_memory=free_memory,
        )

    @contextmanager
    def entered(self) -> Iterator[Callable[[], None]]:
        """Inside the block the network can be trained through, with the adapters attached, without
        gradient checkpointing.

        The block is given a function that frees what a pass that did not end has left in memory.
        """
        network = self.network
        with ExitStack() as stack:
            stack.enter_context(trainable(network.modules))
            stack.enter_context(network.ready())
            stack.enter_context(save_memory(network.layers()))
            forget = stack.enter_context(attached(self.adapters))

            def free_memory() -> None:
                network.forget()
                forget()
                free_cache()

            yield free_memory
