"""What Train was asked to do."""

from dataclasses import dataclass
from pathlib import Path

from ..trainer.data.dataset import Dataset
from ..trainer.settings.lora import LoraConfig
from ..trainer.settings.objective import ObjectiveConfig
from ..trainer.settings.optimizer import OptimizerConfig
from ..trainer.settings.run import RunConfig

OF_THE_FAMILY = ObjectiveConfig()


@dataclass(frozen=True)
class Job:
    """What Train was asked to do."""

    dataset: Dataset
    lora: LoraConfig
    recipe: OptimizerConfig
    run: RunConfig
    base_model: str  # name of the checkpoint, for the LoRA's metadata
    checkpoint: Path | None = None  # its file, where the graph says
    objective: ObjectiveConfig = OF_THE_FAMILY
