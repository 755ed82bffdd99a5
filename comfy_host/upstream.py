"""What the graph did to MODEL and CLIP before Train, and which checkpoint they came from."""

from collections.abc import Iterator
from pathlib import Path

import folder_paths

FOLDERS = {"ckpt_name": "checkpoints", "unet_name": "diffusion_models"}  # by the input that names a file


def found_upstream(model, clip, clip_skip: int | None) -> Iterator[str]:
    """One line on each thing that the person should know of."""
    patched = len(model.patches) + len(clip.patcher.patches)
    if patched:
        yield (
            f"LoRAs or other patches on {patched} weights came with the model: trained on top of them, they"
            " are not in the new LoRA"
        )
    if clip_skip is not None and clip_skip > 1:
        yield (
            f"CLIP Set Last Layer -{clip_skip}: the last {clip_skip - 1} layers of the text encoder take no"
            " part and stay untrained"
        )
    ignored = sorted(_inference_patches(model))
    if ignored:
        yield f"not applied while training: {', '.join(ignored)} (they act on sampling only)"


def _inference_patches(model) -> Iterator[str]:
    options = model.model_options
    for name in (
        "model_function_wrapper",
        "sampler_cfg_function",
        "sampler_post_cfg_function",
        "sampler_pre_cfg_function",
    ):
        if options.get(name):
            yield name.replace("_", " ")
    transformer = options.get("transformer_options", {})
    for kind in ("patches", "patches_replace", "wrappers", "callbacks"):
        for name, value in transformer.get(kind, {}).items():
            if value:
                yield f"{kind.replace('_', ' ')} {name}"


def checkpoint_name(prompt: dict | None, node_id: str | None) -> str:
    """The file that the MODEL of a node was loaded from, read off the queued graph.

    "unknown" where it does not say.
    """
    loaded = _loaded_file(prompt, node_id)
    return loaded[1].replace("\\", "/").rsplit("/", 1)[-1] if loaded else "unknown"


def checkpoint_file(prompt: dict | None, node_id: str | None) -> Path | None:
    """Where that file lies. None where the graph does not say, or the file is gone."""
    loaded = _loaded_file(prompt, node_id)
    path = folder_paths.get_full_path(*loaded) if loaded else None
    return Path(path) if path else None


def _loaded_file(prompt: dict | None, node_id: str | None) -> tuple[str, str] | None:
    """ComfyUI's name of the folder, and the file's name below it."""
    visited: set[str] = set()
    while prompt and node_id in prompt and node_id not in visited:
        visited.add(node_id)
        inputs = prompt[node_id].get("inputs", {})
        for name, folder in FOLDERS.items():
            if isinstance(inputs.get(name), str):
                return folder, inputs[name]
        link = inputs.get("model")
        node_id = str(link[0]) if isinstance(link, list) else None
    return None
