"""What a model predicts in this graph, and what its checkpoint says by itself.

ComfyUI takes an SD 1.5 or SDXL checkpoint that says nothing for one that predicts noise, and a node such as
ModelSamplingDiscrete makes it something else. So a checkpoint of v that comes without that node would be
trained as one of noise: the LoRA would be of no use.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..trainer.errors import ModelError
from ..trainer.objective.prediction import EDM, EPS, OTHER, WORDS, Prediction, V
from .sampling import NoiseLevels

# Names in a checkpoint that ComfyUI looks for in one of SDXL only, and what they mean
_KEYS = {"v_pred": V, "edm_vpred.sigma_max": V, "edm_mean": EDM}
_NODES = {
    V: "ModelSamplingDiscrete before Train, with sampling 'v_prediction'",
    EDM: "ModelSamplingContinuousEDM before Train, with sampling 'edm_playground_v2.5'",
}
_MODELSPEC = {"epsilon": EPS, "v": V}  # modelspec.prediction_type, in the header of the file
_PLACES = torch.arange(100, dtype=torch.float64) / 99 * (1 - 2**-53)  # u, the last one at the most noise


@dataclass(frozen=True)
class Predicts:
    """What a MODEL predicts, by whom."""

    used: Prediction  # here: what is trained
    own: Prediction  # as ComfyUI reads the checkpoint
    in_file: str | None  # the kind that the checkpoint's file names; None where it names none
    by_node: bool  # whether a node replaced what ComfyUI reads

    @classmethod
    def of(cls, model, checkpoint: Path | None) -> "Predicts":
        """checkpoint: the file that it was loaded from, where that is known."""
        used = model.get_model_object("model_sampling")
        # while the model is loaded, a node's object is in the place of its own
        own = getattr(model, "object_patches_backup", {}).get("model_sampling", model.model.model_sampling)
        return cls(
            used=_prediction(used),
            own=_prediction(own),
            in_file=kind_in_file(checkpoint),
            by_node=used is not own,
        )

    def refuse_what_the_file_denies(self) -> None:
        """Raises `ModelError` where the file says v, or EDM, and no node decided on anything."""
        if self.by_node or self.in_file in (None, EPS, self.used.kind):
            return
        raise ModelError(
            f"The checkpoint's file says that it predicts {WORDS[self.in_file]}, and ComfyUI takes it for one"
            f" of {self.used}: trained like that, the LoRA would be of no use. Put the node"
            f" {_NODES[self.in_file]}; or ModelSamplingDiscrete with 'eps', if the file is wrong."
        )

    def warnings(self) -> Iterator[str]:
        """What the person should hear before the first step."""
        if self.by_node and self.used != self.own:
            yield (
                f"a node before Train makes the model predict {self.used}, and so it is trained; by itself"
                f" ComfyUI reads the checkpoint as one of {self.own}"
            )
        if self.in_file not in (None, self.used.kind):
            yield f"the checkpoint's file says that it predicts {WORDS[self.in_file]}, not {self.used}"
        if self.used == Prediction(EPS, zero_terminal_snr=True):
            yield (
                "noise that is predicted with zero terminal SNR cannot be learned at the most noise, where"
                " the model sees nothing else; expected v: set ModelSamplingDiscrete to 'v_prediction'"
            )
        if self.used.kind == OTHER:
            yield f"the model predicts {WORDS[OTHER]}: LCM and other distilled models break when trained on"


def kind_in_file(checkpoint: Path | None) -> str | None:
    """The kind of prediction that a safetensors file names, of `trainer.objective.prediction`."""
    try:
        with safe_open(checkpoint, "pt") as file:
            names, header = set(file.keys()), file.metadata() or {}
    except (OSError, TypeError, SafetensorError):
        return None  # no file is known, or it is one of another format
    found = [kind for name, kind in _KEYS.items() if name in names]
    return found[0] if found else _MODELSPEC.get(header.get("modelspec.prediction_type"))


def _prediction(sampling) -> Prediction:
    return Prediction.of(NoiseLevels(sampling).levels(_PLACES))
