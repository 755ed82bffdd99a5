"""What Train was asked to do."""

from dataclasses import dataclass

from ..trainer.data.dataset import Dataset
from ..trainer.settings.lora import LoraConfig
from ..trainer.settings.optimizer import OptimizerConfig
from ..trainer.settings.run import RunConfig


@dataclass(frozen=True)
class Job:
    """What Train was asked to do."""

    dataset: Dataset
    lora: LoraConfig
    recipe: OptimizerConfig
    run: RunConfig
    base_model: str  # name of the checkpoint, for the LoRA's metadata
