"""Node inputs generated from the trainer's settings, so that a default, a range or a tooltip is written
once.
"""

import inspect
from collections.abc import Sequence

from comfy_api.latest import io

from ..trainer.settings.declare import Limits, limits_of

CATEGORY = "training/DAdapt LoRA"

Dataset = io.Custom("DADAPT_DATASET")
LoraConfig = io.Custom("DADAPT_LORA_CONFIG")
Optimizer = io.Custom("DADAPT_OPTIMIZER")
Report = io.Custom("DADAPT_REPORT,LOSS_MAP")  # an output; also what the host's Plot Loss Graph takes
ReportOnly = io.Custom("DADAPT_REPORT")  # an input: a loss map alone does not do
LoraModel = io.Custom("LORA_MODEL")

_SCHEMA_KEYWORDS = inspect.signature(io.Schema).parameters


def schema(**keywords) -> io.Schema:
    """A schema with the keywords that the installed ComfyUI knows; newer ones are dropped on an older
    host.
    """
    return io.Schema(
        category=CATEGORY, **{name: value for name, value in keywords.items() if name in _SCHEMA_KEYWORDS}
    )


def inputs_of(settings: type, names: Sequence[str] = ()) -> list[io.Input]:
    """A widget for each setting of a dataclass, or for those named, in their order."""
    declared = limits_of(settings)
    return [_widget(name, *declared[name]) for name in names or declared]


def _widget(name: str, default, limits: Limits) -> io.Input:
    if limits.choices:
        return io.Combo.Input(name, options=list(limits.choices), default=default, tooltip=limits.help)
    if isinstance(default, bool):
        return io.Boolean.Input(name, default=default, tooltip=limits.help)
    if isinstance(default, int):
        # without this the front end would add "randomize after queue" to a seed, and train again at every
        # queue
        control = {"control_after_generate": False} if name == "seed" else {}
        return io.Int.Input(
            name,
            default=default,
            min=limits.min,
            max=limits.max,
            step=limits.step or 1,
            tooltip=limits.help,
            **control,
        )
    if isinstance(default, float):
        return io.Float.Input(
            name,
            default=default,
            min=limits.min,
            max=limits.max,
            step=limits.step,
            round=limits.step,
            tooltip=limits.help,
        )
    return io.String.Input(name, default=default, tooltip=limits.help)
