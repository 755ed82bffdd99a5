"""Node inputs generated from the trainer's settings.

So a default, a range or a tooltip is written once.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..trainer.settings.declare import Limits, kind_of, limits_of

CATEGORY = "training/DAdapt LoRA"

Dataset = io.Custom("DADAPT_DATASET")
LoraConfig = io.Custom("DADAPT_LORA_CONFIG")
Optimizer = io.Custom("DADAPT_OPTIMIZER")
Objective = io.Custom("DADAPT_OBJECTIVE")
Report = io.Custom("DADAPT_REPORT,LOSS_MAP")  # an output; also what ComfyUI's Plot Loss Graph takes
ReportOnly = io.Custom("DADAPT_REPORT")  # an input: a loss map alone does not do
LoraModel = io.Custom("LORA_MODEL")

NEWER_KEYWORDS = {"search_aliases"}  # of io.Schema, that ComfyUI 0.3.75 does not have


def schema(**keywords: Any) -> io.Schema:
    """A schema of this pack's category. An older ComfyUI gets it without `NEWER_KEYWORDS`."""
    known = inspect.signature(io.Schema).parameters
    left_out = NEWER_KEYWORDS - known.keys()
    return io.Schema(
        category=CATEGORY, **{name: value for name, value in keywords.items() if name not in left_out}
    )


def inputs_of(settings: type, names: Sequence[str] = ()) -> list[io.Input]:
    """A widget for each setting of a dataclass, or for those named, in their order.

    They are optional inputs: a workflow that was saved before there was such a setting gets its default.
    """
    return [widget(settings, name) for name in names or limits_of(settings)]


def widget(settings: type, name: str) -> io.Input:
    """The widget of one setting."""
    default, limits = limits_of(settings)[name]
    if limits.choices:
        return combo(settings, name, limits.choices)
    shared = dict(default=default, tooltip=limits.help, optional=True)
    made = _WIDGETS[kind_of(settings, name)](name, limits, shared)
    made.widget_type = _AsSent(made.io_type)
    return made


def combo(settings: type, name: str, options: Sequence[str]) -> io.Input:
    """A setting as a list to choose from. It is required where its default is not among `options`."""
    default, limits = limits_of(settings)[name]
    offered = default in options
    return io.Combo.Input(
        name,
        options=list(options),
        default=default if offered else None,
        tooltip=limits.help,
        optional=offered,
    )


def type_of(settings: type, name: str) -> str:
    """The types, with commas between them, that a link to a setting may have."""
    return _TYPES.get(kind_of(settings, name), _CHOICE)


class _AsSent(str):
    """The name of an input's type, for which ComfyUI does not convert what was sent.

    Where the type equals "INT", "FLOAT", "BOOLEAN" or "STRING", ComfyUI puts a constant into it before a node
    is asked: int(16.5) is 16, bool("false") is True, str(None) is "None". This name equals none of them, so
    that the settings see what somebody wrote. `!=`, which decides on links, is that of str.
    """

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def _whole_number(name: str, limits: Limits, shared: dict[str, Any]) -> io.Input:
    # without this the front end would add "randomize after queue" to a seed, and train again at every queue
    control = {"control_after_generate": False} if name == "seed" else {}
    return io.Int.Input(name, min=limits.min, max=limits.max, step=limits.step or 1, **control, **shared)


def _number(name: str, limits: Limits, shared: dict[str, Any]) -> io.Input:
    return io.Float.Input(name, min=limits.min, max=limits.max, step=limits.step, round=limits.step, **shared)


def _switch(name: str, limits: Limits, shared: dict[str, Any]) -> io.Input:
    return io.Boolean.Input(name, **shared)


def _text(name: str, limits: Limits, shared: dict[str, Any]) -> io.Input:
    return io.String.Input(name, **shared)


_WIDGETS = {int: _whole_number, float: _number, bool: _switch, str: _text}
_CHOICE = f"{io.Combo.io_type},{io.String.io_type}"
_TYPES = {int: io.Int.io_type, float: io.Float.io_type, bool: io.Boolean.io_type, str: _CHOICE}
