"""Links: whether ComfyUI lets two types be connected, and whether what came is of the type it should be."""

from typing import Any

from comfy_execution.validation import validate_node_input


def fits(received: str, expected: str) -> bool:
    """Whether an output of type `received` may be connected to an input of type `expected`."""
    return validate_node_input(received, expected)


def is_model(value: Any) -> bool:
    """Whether `value` is a MODEL. Custom nodes make their own, so it is known by what Train needs of it."""
    return hasattr(value, "get_model_object") and hasattr(value, "model")


def is_clip(value: Any) -> bool:
    """Whether `value` is a CLIP, or None, which a checkpoint without a text encoder gives."""
    return value is None or (hasattr(value, "cond_stage_model") and hasattr(value, "patcher"))


def is_vae(value: Any) -> bool:
    """Whether `value` is a VAE, or None. That of a checkpoint without one has this attribute alone."""
    return value is None or hasattr(value, "first_stage_model")
