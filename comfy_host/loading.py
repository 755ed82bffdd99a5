"""Loading and unloading ComfyUI's models, and what memory is left beside them."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import comfy.model_management
import torch

from ..trainer.errors import ModelError
from ..trainer.run.memory import is_out_of_memory


def without_dynamic_loading(model, clip) -> tuple:
    """MODEL and CLIP whose weights stay where they are loaded.

    Newer versions of ComfyUI stream them in at each use on NVIDIA, out of a hook's reach. Those versions read
    them from disk once more then. Raises `ModelError` for weights that do not come from a file.
    """
    if _is_dynamic(model):
        _refuse_without_file(model, "MODEL")
        model = model.clone(disable_dynamic=True)
    if _is_dynamic(clip.patcher):
        _refuse_without_file(clip.patcher, "CLIP")
        clip = clip.clone(disable_dynamic=True)
        clip.cond_stage_model = clip.patcher.model  # ComfyUI leaves the old one there
    return model, clip


def _refuse_without_file(patcher, name: str) -> None:
    if patcher.cached_patcher_init is None:  # how ComfyUI would load it anew
        raise ModelError(
            f"ComfyUI streams the weights of this {name} in while it computes, and what made it did not say"
            f" how to load it otherwise. Connect a {name} from Load Checkpoint, or start ComfyUI with"
            " --disable-dynamic-vram."
        )


def _is_dynamic(patcher) -> bool:
    return hasattr(patcher, "is_dynamic") and patcher.is_dynamic()


def load_together(patchers: Iterable, memory: int) -> None:
    """Loads model patchers on their devices, with their LoRAs applied.

    `memory` bytes stay free beside them.
    """
    comfy.model_management.load_models_gpu(list(patchers), memory_required=memory)


def unload(patcher) -> None:
    """Takes what a patcher has loaded off its device, where that is another than where it rests."""
    if patcher.load_device == patcher.offload_device:
        return
    management = comfy.model_management
    for loaded in [loaded for loaded in management.current_loaded_models if loaded.model is patcher]:
        loaded.model_unload()
        management.current_loaded_models.remove(loaded)
    management.soft_empty_cache()


def is_loaded_in_part(patcher) -> bool:
    """Whether ComfyUI left some of the weights in CPU memory, because they did not fit on the device."""
    return getattr(patcher.model, "model_lowvram", False)


def room_beside(patchers: Sequence) -> int:
    """Bytes on the first patcher's device that would be free if nothing but these were loaded there.

    What ComfyUI leaves free is not counted.
    """
    management, device = comfy.model_management, patchers[0].load_device
    free = management.get_free_memory(device)
    if management.is_device_cpu(device):
        return free  # the weights are there already
    alive = [
        loaded.model
        for loaded in management.current_loaded_models
        if loaded.device == device and loaded.model is not None
    ]
    leaves = sum(
        patcher.loaded_size() for patcher in alive if patcher in patchers or patcher.offload_device != device
    )
    return free + leaves - size_of(patchers, device) - management.extra_reserved_memory()


def size_of(patchers: Iterable, device: torch.device) -> int:
    """Bytes of these models' weights that belong on the device."""
    return sum(patcher.model_size() for patcher in patchers if patcher.load_device == device)


def free_cache() -> None:
    """The device's allocator gives back what no tensor uses."""
    gc.collect()
    comfy.model_management.soft_empty_cache()


@contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """Says what to change here; ComfyUI's own advice is for making pictures."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise torch.cuda.OutOfMemoryError(
            "Training did not fit into memory, with one picture at once. Set checkpointing to 'on' at Train;"
            " if it is on, lower the resolution at Load Dataset or dim at LoRA Config, or switch"
            f" train_text_encoder off. ({error})"
        ) from error
