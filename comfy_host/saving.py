"""Saving a LORA_MODEL, and proving that the host's own Load LoRA takes all of it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import comfy.lora
import comfy.lora_convert
import comfy.utils

from ..trainer.adapters.file import cast, layer_names, write_lora
from ..trainer.errors import LoraFileError, SettingError
from ..trainer.record.metadata import titled
from .folders import lora_path, name_in_load_lora, name_in_output
from .lora_model import LoraModel


@dataclass(frozen=True)
class SavedLora:
    """A LoRA file that was written and loaded back."""

    name: str  # in the host's Load LoRA
    file: str  # below the output folder
    keys_total: int  # adapted layers in the file
    keys_matched: int  # of these, what the host applies
    megabytes: float

    @property
    def text(self) -> str:
        return (
            f"{self.name}: {self.megabytes:.1f} MB, {self.keys_matched} of {self.keys_total} layers load in"
            " ComfyUI"
        )


def save_lora(lora: LoraModel, filename: str, dtype: str, overwrite: bool) -> SavedLora:
    """Writes the LoRA below output/loras and loads it back.

    Raises `LoraFileError` that names the layers the host would drop.
    """
    if not isinstance(lora, LoraModel):
        raise SettingError(
            "lora: expected the LORA_MODEL of a DAdapt Train node. Save that of another trainer with Save"
            " LoRA Weights."
        )
    path = lora_path(filename, overwrite)
    write_lora(path, cast(lora, dtype), titled(lora.metadata, path.stem))
    total, matched = check_file(path, lora.key_map)
    saved = SavedLora(
        name_in_load_lora(path), name_in_output(path), total, matched, path.stat().st_size / 1e6
    )
    logging.getLogger(__name__).info("Saved LoRA %s", saved.text)
    return saved


def check_file(path: Path, key_map: Mapping[str, str]) -> tuple[int, int]:
    """Loads a LoRA file through the host; gives the number of its layers, and of the weights that the host
    would patch.

    Raises `LoraFileError` that names the layers that the host would silently drop.
    """
    tensors = comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(str(path), safe_load=True))
    patches = comfy.lora.load_lora(tensors, dict(key_map), log_missing=False)
    names = layer_names(tensors)
    dropped = [name for name in names if key_map.get(name) not in patches]
    if dropped:
        raise LoraFileError(
            f"{len(dropped)} of the {len(names)} layers in {path.name} would not be loaded by ComfyUI's Load"
            f" LoRA: {', '.join(dropped[:5])}{' ...' if len(dropped) > 5 else ''}. The file was kept. Report"
            " this with your ComfyUI version."
        )
    return len(names), len(patches)
