"""What a LoRA file says of how it was made: the established trainer's `ss_*` keys and the `modelspec.*`
standard. All values strings.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from ..data.dataset import Dataset
from ..data.latents import LatentPicture
from ..data.order import batches_per_epoch
from ..families import Family
from ..run.events import StepRecord
from ..settings.lora import ATTENTION, LoraConfig
from ..settings.optimizer import OptimizerConfig
from ..settings.run import RunConfig
from ..settings.schedule import warmup_steps

OPTIMIZER_NAMES = {
    "prodigy": "prodigyopt.prodigy.Prodigy",
    "prodigy_schedule_free": "prodigyplus.prodigy_plus_schedulefree.ProdigyPlusScheduleFree",
    "adamw": "torch.optim.adamw.AdamW",
}
DADAPT_NAMES = {
    "reference": "dadaptation.DAdaptAdam",
    "fast": "comfyui_dadapt_lora.trainer.dadapt.DAdaptAdam",
}
TITLE_KEYS = ("modelspec.title", "ss_output_name")  # set by whoever names the file


@dataclass(frozen=True)
class RunFacts:
    """What is the same of every LoRA that a run gives."""

    family: Family
    base_model: str  # name of the checkpoint
    clip_skip: int | None
    dataset: Dataset
    latents: Sequence[LatentPicture]
    lora: LoraConfig
    recipe: OptimizerConfig
    run: RunConfig
    precision: str
    steps: int  # of the whole run
    started: datetime


def training_metadata(facts: RunFacts, last: StepRecord) -> dict[str, str]:
    """Metadata of a LoRA after `last`, the record of its last step. No paths: names only."""
    dataset, lora, recipe, run = facts.dataset, facts.lora, facts.recipe, facts.run
    resolved, resolution = recipe.resolved(), dataset.config.resolution
    rate = recipe.learning_rate * (recipe.adamw_rate if recipe.algorithm == "adamw" else 1)
    finished = datetime.now(timezone.utc)
    values = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{facts.family.architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.prediction_type": "epsilon",
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.date": finished.isoformat(timespec="seconds"),
        "modelspec.trigger_phrase": dataset.config.trigger_word,
        "ss_base_model_version": facts.family.base_version,
        "ss_sd_model_name": facts.base_model,
        "ss_v2": False,
        "ss_clip_skip": facts.clip_skip,
        "ss_network_module": "networks.lora",
        "ss_network_dim": lora.dim,
        "ss_network_alpha": float(lora.dim),
        "ss_network_args": (
            None
            if lora.layers == ATTENTION
            else json.dumps({"conv_dim": lora.dim, "conv_alpha": float(lora.dim)})
        ),
        "ss_optimizer": f"{_optimizer_name(resolved)}(weight_decay={resolved.weight_decay})",
        "ss_dadapt_growth_rate": recipe.growth_limit(facts.steps) if recipe.algorithm == "dadapt" else None,
        "ss_dadapt_recipe": json.dumps(asdict(resolved)),
        "ss_learning_rate": rate,
        "ss_unet_lr": rate * recipe.unet if lora.train_unet else None,
        "ss_text_encoder_lr": rate * recipe.text_encoder if lora.train_text_encoder else None,
        "ss_lr_scheduler": f"{resolved.schedule}_with_warmup",
        "ss_lr_warmup_steps": warmup_steps(facts.steps, resolved.warmup_percent),
        "ss_max_train_steps": facts.steps,
        "ss_steps": last.step,
        "ss_epoch": last.epoch,
        "ss_num_train_images": dataset.pictures_per_epoch,
        "ss_num_reg_images": 0,
        "ss_num_batches_per_epoch": batches_per_epoch(facts.latents, run.batch_size),
        "ss_total_batch_size": run.batch_size,
        "ss_resolution": f"({resolution}, {resolution})",
        "ss_enable_bucket": True,
        "ss_seed": run.seed,
        "ss_mixed_precision": "no" if facts.precision == "fp32" else facts.precision,
        "ss_dataset_dirs": json.dumps(_folders(dataset)),
        "ss_tag_frequency": json.dumps({dataset.name: _tag_counts(dataset)}),
        "ss_training_started_at": facts.started.timestamp(),
        "ss_training_finished_at": finished.timestamp(),
        "ss_dadapt_d": last.d,
    }
    return {key: str(value) for key, value in values.items() if value is not None}


def _optimizer_name(recipe: OptimizerConfig) -> str:
    return (
        DADAPT_NAMES[recipe.implementation]
        if recipe.algorithm == "dadapt"
        else OPTIMIZER_NAMES[recipe.algorithm]
    )


def titled(metadata: dict[str, str], title: str) -> dict[str, str]:
    """The metadata of a file with this title."""
    return {**metadata, **dict.fromkeys(TITLE_KEYS, title)}


def _folders(dataset: Dataset) -> dict[str, dict[str, int]]:
    counts = Counter((picture.path.parent.name, picture.repeats) for picture in dataset.pictures)
    return {name: {"n_repeats": repeats, "img_count": count} for (name, repeats), count in counts.items()}


def _tag_counts(dataset: Dataset) -> dict[str, int]:
    tags = (tag.strip() for picture in dataset.pictures for tag in picture.caption.split(","))
    return dict(Counter(tag for tag in tags if tag))
