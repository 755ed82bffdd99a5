"""LORA_MODEL: a LoRA between two nodes, and putting it on a model as ComfyUI's own Load LoRA does."""

from collections.abc import Mapping

import comfy.sd
from torch import Tensor


class LoraModel(dict):
    """The tensors of a LoRA file by name, fp32 in CPU memory: what ComfyUI's own LORA_MODEL nodes take.

    It carries what Save LoRA needs: the file's metadata, and ComfyUI's key map of the model that it was
    trained on.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], key_map: Mapping[str, str]
    ) -> None:
        super().__init__(tensors)
        self.metadata = dict(metadata)
        self.key_map = dict(key_map)


def apply_lora(model, clip, lora: LoraModel) -> tuple:
    """Clones of MODEL and CLIP with the LoRA as ordinary patches at strength 1."""
    return comfy.sd.load_lora_for_models(model, clip, dict(lora), 1.0, 1.0)
