"""What is the same of every LoRA that a run gives, and how the run was set up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ..data.dataset import Dataset
from ..families import Family
from ..objective.objective import Objective
from ..parts import label_of
from ..precision import Precision
from ..settings.lora import LoraConfig
from ..settings.optimizer import OptimizerConfig
from ..settings.run import RunConfig

FULL = 0.9  # share of batch_size, below which the report says so


@dataclass(frozen=True)
class ModelFacts:
    """The model that a LoRA is for."""

    family: Family
    name: str  # of the checkpoint
    clip_skip: int | None
    parts: tuple[str, ...]  # that train


@dataclass(frozen=True)
class RunFacts:
    """What is the same of every LoRA that a run gives."""

    model: ModelFacts
    dataset: Dataset
    lora: LoraConfig
    recipe: OptimizerConfig  # resolved: what the preset stands for
    objective: Objective
    run: RunConfig
    precision: Precision
    steps: int  # of the whole run
    steps_per_epoch: int
    started: datetime


@dataclass(frozen=True)
class Setup:
    """How a run was set up on this machine."""

    weights: str  # dtype of the model's weights
    device: str
    layers: Mapping[str, int]  # adapted ones of each trained part
    values: int  # of the LoRA
    checkpointing: bool
    measured: bool  # whether there are held-out pictures


def what_ran(facts: RunFacts, setup: Setup) -> Iterator[str]:
    """What the run found, and what it made of it: one fact per line."""
    layers = " and ".join(f"{count} {label_of(part)} layers" for part, count in setup.layers.items())
    family = facts.model.family.name
    yield (
        f"{family} in {setup.weights} on {setup.device}, computed in {facts.precision}; {layers}"
        f" at dim {facts.lora.dim}, {setup.values / 1e6:.1f} million values"
    )
    recipe = facts.recipe
    yield f"recipe '{recipe.preset}': {recipe.schedule}, warmup {recipe.warmup_percent:g}%"
    yield from facts.objective.lines()
    mean = facts.dataset.pictures_per_epoch / facts.steps_per_epoch
    if mean < FULL * facts.run.batch_size:
        yield (
            f"{mean:.1f} pictures per step on average: only pictures of one size share a step, and the last"
            " step of an epoch may show fewer"
        )
    if not setup.measured:
        yield (
            "no pictures were held out, so that nobody knows if it overtrained: set heldout_share to 0.1 at"
            " Load Dataset to see it"
        )
    if setup.checkpointing:
        yield "gradient checkpointing: each block is computed a second time, which takes less memory"
