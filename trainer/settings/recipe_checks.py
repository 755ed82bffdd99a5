"""What settings of DAdapt Optimizer cannot work together, each refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import SettingError
from .declare import limits_of
from .presets import AUTO_GROWTH, PRESETS

if TYPE_CHECKING:
    from .optimizer import OptimizerConfig

NEVER_FROZEN, TO_THE_END = 0.0, 100.0
ALL_PRESETS_USE = {
    *("preset", "learning_rate", "unet", "text_encoder", "warmup_percent", "schedule"),
    *("weight_decay", "beta1", "beta2", "burn_guard"),
}
REFERENCE_LACKS = {  # what the reference implementation cannot do, and the value at which it is off
    "freeze_d_percent": NEVER_FROZEN,
    "stop_unet_percent": TO_THE_END,
    "stop_text_encoder_percent": TO_THE_END,
    "s_in_bf16": False,
}


def check_recipe(recipe: OptimizerConfig) -> None:
    """Raises `SettingError` for the first settings that contradict each other."""
    _refuse_shrinking(recipe)
    _refuse_coupled_decay(recipe)
    _refuse_what_the_preset_does_not_use(recipe)
    _refuse_what_the_reference_cannot(recipe)
    _refuse_no_average(recipe)


def _refuse_shrinking(recipe: OptimizerConfig) -> None:
    if AUTO_GROWTH < recipe.growth_rate < 1.0:
        raise SettingError(
            f"growth rate: expected 0 (auto) or at least 1, got {recipe.growth_rate}: d cannot shrink."
        )


def _refuse_coupled_decay(recipe: OptimizerConfig) -> None:
    if recipe.weight_decay > 0 and not recipe.decouple:
        raise SettingError(
            f"weight decay {recipe.weight_decay} with decouple off: expected decouple on, or weight decay 0."
            " Coupled decay enters the estimate of d and destroys the LoRA."
        )


def _refuse_what_the_preset_does_not_use(recipe: OptimizerConfig) -> None:
    unused = ", ".join(
        f"{name.replace('_', ' ')} ({default} in a new node)" for name, default in _unused(recipe)
    )
    if unused:
        raise SettingError(
            f"preset {recipe.preset!r} does not use what is set here: {unused}. Set it back, or choose"
            " another preset; 'guide 2023' takes every field of D-Adaptation as it stands."
        )


def _unused(recipe: OptimizerConfig) -> Iterator[tuple[str, object]]:
    """Name and default of each setting that was changed and has no effect with the preset."""
    preset = PRESETS[recipe.preset]
    for name, (default, _) in limits_of(type(recipe)).items():
        used = name not in preset.settings and name in ALL_PRESETS_USE | preset.fields
        if not used and getattr(recipe, name) not in (default, preset.settings.get(name, default)):
            yield name, default


def _refuse_what_the_reference_cannot(recipe: OptimizerConfig) -> None:
    asked = [name.replace("_", " ") for name, off in REFERENCE_LACKS.items() if getattr(recipe, name) != off]
    if recipe.implementation == "reference" and asked:
        raise SettingError(
            f"implementation 'reference' cannot do this: {', '.join(asked)}. Expected implementation 'fast',"
            " which can."
        )


def _refuse_no_average(recipe: OptimizerConfig) -> None:
    if recipe.algorithm == "prodigy_schedule_free" and recipe.beta1 == 0:
        raise SettingError(
            "beta1: expected more than 0 with schedule-free averaging, which has no average at 0. 0.9 is"
            " usual."
        )
