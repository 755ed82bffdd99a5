"""What a node refuses: settings and links when the workflow is queued, and what links bring when it runs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from comfy_api.latest import io

from ..comfy_host.links import fits, is_clip, is_model, is_vae
from ..trainer.data.dataset import Dataset
from ..trainer.errors import SettingError, TrainerError, shown
from ..trainer.record.report import Report
from ..trainer.settings.declare import checked, limits_of
from ..trainer.settings.lora import LoraConfig
from ..trainer.settings.objective import ObjectiveConfig
from ..trainer.settings.optimizer import OptimizerConfig
from . import schema


@dataclass(frozen=True)
class Link:
    """An input that only another node can give."""

    type: str
    source: str  # the node that it comes from
    accepts: Callable[[Any], bool]  # whether an object is one

    @property
    def expected(self) -> str:
        """What should be connected, in words."""
        return f"a link from {self.type.removeprefix('DADAPT_')} of a {self.source} node"


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


LINKS = {  # of all nodes, by the name of the input
    "model": Link(io.Model.io_type, "Load Checkpoint", is_model),
    "clip": Link(io.Clip.io_type, "Load Checkpoint", is_clip),
    "vae": Link(io.Vae.io_type, "Load Checkpoint", is_vae),
    "dataset": Link(schema.Dataset.io_type, "Load Dataset", _is(Dataset)),
    "lora_config": Link(schema.LoraConfig.io_type, "LoRA Config", _is(LoraConfig)),
    "optimizer": Link(schema.Optimizer.io_type, "DAdapt Optimizer", _is(OptimizerConfig)),
    "objective": Link(schema.Objective.io_type, "Training Objective", _is(ObjectiveConfig)),
    "lora": Link(schema.LoraModel.io_type, "Train", _is(dict)),
    "report": Link(schema.ReportOnly.io_type, "Train", _is(Report)),
}


class Refusal:
    """Why a node cannot run, for `validate_inputs` to return.

    ComfyUI writes the reason once for each input of the node: in full the first time, then by reference.
    """

    def __init__(self, reason: str) -> None:
        self._texts = chain([reason], repeat("see above"))

    def __str__(self) -> str:
        return next(self._texts)


def refusal(
    inputs: Mapping[str, Any],
    types: Mapping[str, str] | None,
    *settings: type,
    links: Iterable[str] = (),
    check: Callable[..., None] | None = None,
) -> bool | Refusal:
    """What `validate_inputs` returns: True, or why the node cannot run with what was queued.

    inputs: the constants, and None for what comes over a link.
    types: of the outputs that are linked to inputs; a name that is not in it is a constant.
    settings: the dataclasses whose fields are the node's widgets. links: its other inputs, of `LINKS`.
    check: asks more of the widgets that are constants, given by name; raises `TrainerError`.
    """
    linked = types or {}
    constants = {name: value for name, value in inputs.items() if name not in linked}
    try:
        _refuse_types(linked, settings)
        _refuse_unknown(inputs, settings, links)
        _refuse_constants(constants, links)
        _check_settings(constants, linked, settings)
        if check:
            check(**constants)
    except TrainerError as error:
        return Refusal(str(error))
    return True


def refuse_wrong_links(**values: Any) -> None:
    """Raises `SettingError` for the first object that a link brought and that is not what the input takes."""
    for name, value in values.items():
        link = LINKS[name]
        if not link.accepts(value):
            raise SettingError(f"{_label(name)}: expected {link.expected}, got {shown(value)}.")


def _refuse_unknown(inputs: Mapping[str, Any], settings: Iterable[type], links: Iterable[str]) -> None:
    known = {name for kind in settings for name in limits_of(kind)} | set(links)
    for name in inputs.keys() - known:
        raise SettingError(f"This node has no input {shown(name)}. Remove the link to it.")


def _refuse_constants(constants: Mapping[str, Any], links: Iterable[str]) -> None:
    for name in links:
        if name in constants:
            raise SettingError(
                f"{_label(name)}: expected {LINKS[name].expected}, got {shown(constants[name])}."
            )


def _refuse_types(linked: Mapping[str, str], settings: Iterable[type]) -> None:
    """ComfyUI leaves this to a node that asks for the types."""
    types = {name: schema.type_of(kind, name) for kind in settings for name in limits_of(kind)}
    for name, received in linked.items():
        link = LINKS.get(name)
        if not fits(received, link.type if link else types[name]):
            expected = link.expected if link else f"a value or a link of type {types[name]}"
            raise SettingError(f"{_label(name)}: expected {expected}, got a link of type {shown(received)}.")


def _check_settings(
    constants: Mapping[str, Any], linked: Mapping[str, str], settings: Iterable[type]
) -> None:
    """Each constant on its own; and all together, where none comes over a link and is not known yet."""
    for kind in settings:
        names = limits_of(kind)
        given = {name: constants[name] for name in names if name in constants}
        for name, value in given.items():
            checked(kind, name, value)
        if not names.keys() & linked.keys():
            kind(**given)


def _label(name: str) -> str:
    return name.replace("_", " ")
