"""What Train refuses before anything expensive begins."""

from collections.abc import Iterator

import torch
from comfy import quant_ops
from torch import Tensor, nn

from ..trainer.errors import ModelError

# of weights that are used as they are, or cast
NUMBERS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)
WITHOUT_GRADIENT = {"CublasLinear": "start ComfyUI without --fast cublas_ops"}  # classes among a layer's


def refuse_missing(clip, vae) -> None:
    """Raises `ModelError` for a part that the checkpoint lacks.

    ComfyUI's loader gives None for it, and for a VAE without weights an object without a model.
    """
    parts = {"text encoder (CLIP)": clip, "VAE": vae and vae.first_stage_model}
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        what = " and no ".join(missing)
        raise ModelError(
            f"The checkpoint has no {what}. Connect one from Load CLIP or Load VAE, or load a whole"
            " checkpoint."
        )


def refuse_quantized(model, clip=None) -> None:
    """Raises `ModelError` for weights through which it is not known that gradients are right.

    `clip` is for a text encoder that trains.
    """
    roots = [model.model.diffusion_model, *([clip.cond_stage_model] if clip else [])]
    layers = [layer for root in roots for layer in root.modules()]
    kinds = {kind for layer in layers for kind in _unknown_kinds(layer)}
    if kinds:
        raise ModelError(
            f"This model's weights are quantized ({', '.join(sorted(kinds))}) in a way that cannot be trained"
            " on. Load the model in fp16, bf16, fp32, fp8 or another format that ComfyUI itself can load, or"
            " as a GGUF file with ComfyUI-GGUF."
        )
    for layer in layers:
        for kind in type(layer).__mro__:
            if kind.__name__ in WITHOUT_GRADIENT:
                advice = WITHOUT_GRADIENT[kind.__name__]
                raise ModelError(f"No gradient goes through this model's layers ({kind.__name__}): {advice}.")


def _unknown_kinds(layer: nn.Module) -> Iterator[str]:
    """The name of each kind of weight in this layer that is not known to train.

    No gradient goes through an embedding.
    """
    if isinstance(layer, nn.Embedding):
        return
    for weight in layer._parameters.values():
        if weight is None or _is_dequantized(layer, weight):
            continue
        if type(weight) not in (Tensor, nn.Parameter) or type(weight.data) is not Tensor:
            yield type(weight if type(weight) is not nn.Parameter else weight.data).__name__
        elif weight.dtype not in NUMBERS:
            yield str(weight.dtype).removeprefix("torch.")
    if getattr(layer, "pre_quant_scale", None) is not None:
        yield "AWQ"  # newer versions of ComfyUI: the weight's input is another than the LoRA's


def _is_dequantized(layer: nn.Module, weight: Tensor) -> bool:
    """Whether a layer of ComfyUI or of ComfyUI-GGUF makes numbers from its weight before it uses it."""
    if isinstance(weight, quant_ops.QuantizedTensor):
        return hasattr(layer, "_full_precision_mm") and hasattr(layer, "forward_comfy_cast_weights")
    return type(weight).__name__ == "GGMLTensor" and hasattr(layer, "forward_ggml_cast_weights")
