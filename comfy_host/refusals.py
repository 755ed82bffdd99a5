"""What Train refuses before anything expensive begins."""

from torch import Tensor

from ..trainer.errors import ModelError


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


def refuse_quantized(model) -> None:
    """Raises `ModelError` for weights that are more than numbers of one dtype, as GGUF's are."""
    kinds = {
        type(weight.data).__name__
        for weight in model.model.diffusion_model.parameters()
        if type(weight.data) is not Tensor
    }
    if kinds:
        raise ModelError(
            f"This model's weights are quantized ({', '.join(sorted(kinds))}), which cannot be trained on"
            " yet. Load the checkpoint in fp16, bf16, fp32 or plain fp8."
        )
