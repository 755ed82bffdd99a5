"""Saving a LORA_MODEL, and proving that ComfyUI's own Load LoRA takes all of it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import comfy.lora
import comfy.lora_convert
import comfy.utils
from torch import Tensor

from ..trainer.adapters.file import cast, layer_names, not_written, weights_hash, write_lora
from ..trainer.adapters.saved_files import SavedFiles
from ..trainer.atomic_file import remove_old_partials
from ..trainer.errors import LoraFileError, SettingError
from ..trainer.record.metadata import titled
from .lora_model import LoraModel
from .output_files import lora_path, name_in_load_lora, name_in_output

_saved = SavedFiles()  # since ComfyUI was started


@dataclass(frozen=True)
class SavedLora:
    """A LoRA file that was written and loaded back."""

    name: str  # in ComfyUI's Load LoRA
    file: str  # below the output folder
    keys_total: int  # adapted layers in the file
    keys_matched: int  # of these, what ComfyUI applies
    megabytes: float

    @property
    def text(self) -> str:
        return (
            f"{self.name}: {self.megabytes:.1f} MB, {self.keys_matched} of {self.keys_total} layers load in"
            " ComfyUI"
        )


def save_lora(lora: LoraModel, filename: str, dtype: str, overwrite: bool) -> SavedLora:
    """Writes the LoRA below output/loras and loads it back.

    Unless `overwrite`, a LoRA that was saved with the same settings before, and whose file is still there, is
    not written a second time under another number. Raises `SettingError` for a name that cannot be used, and
    `LoraFileError` for a file that cannot be written or that names the layers that ComfyUI would drop.
    """
    if not isinstance(lora, LoraModel):
        raise SettingError(
            "lora: expected the LORA_MODEL of a DAdapt Train node. Save that of another trainer with Save"
            " LoRA Weights."
        )
    tensors, settings = cast(lora, dtype), (filename, dtype, overwrite)
    weights = weights_hash(tensors)
    path = None if overwrite else _saved.find(settings, weights)
    if path is None:
        path = lora_path(filename, overwrite)
        _write(path, tensors, lora.metadata)
        _saved.remember(path, settings, weights)
    total, matched = check_file(path, lora.key_map)
    saved = SavedLora(
        name_in_load_lora(path), name_in_output(path), total, matched, path.stat().st_size / 1e6
    )
    logging.getLogger(__name__).info("Saved LoRA %s", saved.text)
    return saved


def times_lost(filename: str | None, dtype: str | None, overwrite: bool | None) -> int:
    """How often a file that was saved with these settings was found deleted or changed.

    None stands for a setting that is not known.
    """
    return _saved.times_lost((filename, dtype, overwrite))


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    try:
        remove_old_partials(path.parent)
        write_lora(path, tensors, titled(metadata, path.stem))
    except OSError as error:
        raise not_written(name_in_output(path), tensors, error) from error


def check_file(path: Path, key_map: Mapping[str, str]) -> tuple[int, int]:
    """Loads a LoRA file through ComfyUI.

    Returns the number of its layers, and of the weights that ComfyUI would patch. Raises `LoraFileError` that
    names the layers that ComfyUI would silently drop.
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
