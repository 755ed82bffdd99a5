"""Makes ComfyUI's loader take a tiny model for what its metadata says. By its width, none would be known."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NAME, CLASS, CONFIG = "tiny_family", "tiny_class", "tiny_config"  # keys in the metadata
CUSTOM_NODE = "tiny_families_for_tests"  # as HostServer is told which ones to load
PLUGIN = """import sys

sys.path.append({folder!r})
from tiny_families.nodes import NODE_CLASS_MAPPINGS
"""


def tiny_metadata(name: str, config_class: str, unet_config: Mapping) -> dict[str, str]:
    """For a file: the tiny family, ComfyUI's class of it, and what detection would say of it."""
    return {NAME: name, CLASS: config_class, CONFIG: json.dumps(unet_config)}


def tiny_model_config(metadata: Mapping[str, str]):
    """ComfyUI's model config for what `tiny_metadata` describes. `tiny_family` is its family's name."""
    import comfy.supported_models
    import torch

    unet_config = json.loads(metadata[CONFIG])
    for key in unet_config:
        if key.endswith("dtype"):
            unet_config[key] = getattr(torch, unet_config[key])
    config = getattr(comfy.supported_models, metadata[CLASS])(unet_config)
    config.tiny_family = metadata[NAME]
    return config


def install():
    """Wraps ComfyUI's detection. Returns the function that was there."""
    import comfy.model_detection

    original = comfy.model_detection.model_config_from_unet

    def model_config_from_unet(state_dict, unet_key_prefix, use_base_if_no_match=False, metadata=None):
        if metadata and NAME in metadata:
            return tiny_model_config(metadata)
        return original(state_dict, unet_key_prefix, use_base_if_no_match, metadata=metadata)

    comfy.model_detection.model_config_from_unet = model_config_from_unet
    return original


@contextmanager
def wrapped_detection() -> Iterator[None]:
    """Tiny models can be loaded inside the block."""
    import comfy.model_detection

    original = install()
    try:
        yield
    finally:
        comfy.model_detection.model_config_from_unet = original


def add_custom_node(base: Path) -> None:
    """Lets a HostServer that is started later in this base directory load what `nodes.py` says."""
    folder = base / "custom_nodes" / CUSTOM_NODE
    folder.mkdir(parents=True, exist_ok=True)
    plugin = PLUGIN.format(folder=str(Path(__file__).resolve().parents[1]))
    (folder / "__init__.py").write_text(plugin, encoding="utf-8")
