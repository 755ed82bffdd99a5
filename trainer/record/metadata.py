"""What a LoRA file says of how it was made, for other tools: all values are strings.

The keys are those of kohya's sd-scripts (`ss_*`) and of the modelspec standard (`modelspec.*`).
"""

import json
from collections import Counter
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from ..data.dataset import Dataset
from ..objective.objective import Objective
from ..objective.prediction import EPS, V
from ..parts import UNET, text_encoders
from ..run.events import StepRecord
from ..settings.lora import ALL
from ..settings.objective import DEBIASED, HUBER, MIN_SNR, MSE, SMOOTH_L1
from ..settings.optimizer import OptimizerConfig
from ..settings.schedule import warmup_steps
from .facts import RunFacts

OPTIMIZER_NAMES = {
    "prodigy": "prodigyopt.prodigy.Prodigy",
    "prodigy_schedule_free": "prodigyplus.prodigy_plus_schedulefree.ProdigyPlusScheduleFree",
    "adamw": "torch.optim.adamw.AdamW",
}
DADAPT_NAMES = {
    "reference": "dadaptation.DAdaptAdam",
    "fast": "comfyui_dadapt_lora.trainer.optim.dadapt.DAdaptAdam",
}
LOSS_TYPES = {MSE: "l2", HUBER: "huber", SMOOTH_L1: "smooth_l1"}
PREDICTION_TYPES = {EPS: "epsilon", V: "v"}  # a flow has none
TITLE_KEYS = ("modelspec.title", "ss_output_name")  # set by whoever names the file


def training_metadata(facts: RunFacts, last: StepRecord) -> dict[str, str]:
    """Metadata of a LoRA after `last`, the record of its last step. No paths: names only."""
    values = {
        **_of_model(facts),
        **_of_network(facts),
        **_of_optimizer(facts),
        **_of_objective(facts.objective),
        **_of_pictures(facts),
        **_of_steps(facts, last),
    }
    return {key: str(value) for key, value in values.items() if value is not None}


def titled(metadata: dict[str, str], title: str) -> dict[str, str]:
    """The metadata of a file with this title."""
    return {**metadata, **dict.fromkeys(TITLE_KEYS, title)}


def _of_model(facts: RunFacts) -> dict[str, Any]:
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{facts.model.family.files.architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.prediction_type": PREDICTION_TYPES.get(facts.objective.prediction.kind),
        "ss_base_model_version": facts.model.family.files.base_version,
        "ss_sd_model_name": facts.model.name,
        "ss_v2": False,
        "ss_clip_skip": facts.model.clip_skip,
    }


def _of_network(facts: RunFacts) -> dict[str, Any]:
    dim = facts.lora.dim
    of_convolutions = facts.lora.conv_dim or dim
    convolutions = json.dumps({"conv_dim": of_convolutions, "conv_alpha": float(of_convolutions)})
    has_convolutions = facts.lora.layers == ALL or facts.lora.conv_dim > 0
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": dim,
        "ss_network_alpha": float(dim),
        "ss_network_args": convolutions if has_convolutions else None,
    }


def _of_optimizer(facts: RunFacts) -> dict[str, Any]:
    recipe = facts.recipe
    is_dadapt = recipe.algorithm == "dadapt"
    rate = recipe.learning_rate * (recipe.adamw_rate if recipe.algorithm == "adamw" else 1)
    return {
        "ss_optimizer": f"{_optimizer_name(recipe)}(weight_decay={recipe.weight_decay})",
        "ss_dadapt_growth_rate": recipe.growth_limit(facts.steps) if is_dadapt else None,
        "ss_dadapt_recipe": json.dumps(asdict(recipe)),
        "ss_learning_rate": rate,
        "ss_unet_lr": rate * recipe.unet if UNET in facts.model.parts else None,
        "ss_text_encoder_lr": rate * recipe.text_encoder if text_encoders(facts.model.parts) else None,
        "ss_lr_scheduler": f"{recipe.schedule}_with_warmup",
        "ss_lr_warmup_steps": warmup_steps(facts.steps, recipe.warmup_percent),
        "ss_mixed_precision": "no" if str(facts.precision) == "fp32" else facts.precision,
    }


def _of_objective(objective: Objective) -> dict[str, Any]:
    noise, distance, weighting = objective.noise, objective.distance, objective.weighting
    is_multires = noise.multires_iterations > 0
    is_huber = distance.kind != MSE
    return {
        "ss_loss_type": LOSS_TYPES[distance.kind],
        "ss_huber_schedule": "constant" if is_huber else None,
        "ss_huber_c": distance.c if is_huber else None,
        "ss_huber_scale": 1.0 if is_huber else None,
        "ss_min_snr_gamma": weighting.gamma if weighting.kind == MIN_SNR else None,
        "ss_debiased_estimation": weighting.kind == DEBIASED,
        "ss_noise_offset": noise.offset or None,
        "ss_multires_noise_iterations": noise.multires_iterations or None,
        "ss_multires_noise_discount": noise.multires_discount if is_multires else None,
        "ss_ip_noise_gamma": noise.perturbation or None,
        "ss_zero_terminal_snr": objective.prediction.zero_terminal_snr and not objective.prediction.is_flow,
        "ss_dadapt_objective": json.dumps(objective.identity()),
    }


def _of_pictures(facts: RunFacts) -> dict[str, Any]:
    dataset = facts.dataset
    resolution = dataset.config.resolution
    return {
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.trigger_phrase": dataset.config.trigger_word,
        "ss_num_train_images": dataset.pictures_per_epoch,
        "ss_num_reg_images": 0,
        "ss_num_batches_per_epoch": facts.steps_per_epoch,
        "ss_total_batch_size": facts.run.batch_size,
        "ss_resolution": f"({resolution}, {resolution})",
        "ss_enable_bucket": True,
        "ss_dataset_dirs": json.dumps(_folders(dataset)),
        "ss_tag_frequency": json.dumps({dataset.name: _tag_counts(dataset)}),
    }


def _of_steps(facts: RunFacts, last: StepRecord) -> dict[str, Any]:
    finished = datetime.now(timezone.utc)
    return {
        "modelspec.date": finished.isoformat(timespec="seconds"),
        "ss_max_train_steps": facts.steps,
        "ss_steps": last.step,
        "ss_epoch": last.epoch,
        "ss_seed": facts.run.seed,
        "ss_training_started_at": facts.started.timestamp(),
        "ss_training_finished_at": finished.timestamp(),
        "ss_dadapt_d": last.d,
    }


def _optimizer_name(recipe: OptimizerConfig) -> str:
    if recipe.algorithm == "dadapt":
        return DADAPT_NAMES[recipe.implementation]
    return OPTIMIZER_NAMES[recipe.algorithm]


def _folders(dataset: Dataset) -> dict[str, dict[str, int]]:
    counts = Counter((picture.path.parent.name, picture.repeats) for picture in dataset.pictures)
    return {name: {"n_repeats": repeats, "img_count": count} for (name, repeats), count in counts.items()}


def _tag_counts(dataset: Dataset) -> dict[str, int]:
    tags = (tag.strip() for picture in dataset.pictures for tag in picture.caption.split(","))
    return dict(Counter(tag for tag in tags if tag))
