"""The dtype that ComfyUI computes in with a MODEL."""

import torch


def compute_dtype(model) -> torch.dtype:
    """The dtype that ComfyUI computes in with this MODEL, whatever dtype its weights have."""
    return model.get_model_object("manual_cast_dtype") or model.model.get_dtype()


def computing_in(model, dtype: torch.dtype):
    """A MODEL whose activations are fp32, except where autocast makes them `dtype`.

    Autocast only lowers precision, and fp16 lacks the range of bf16. It leaves fp64 alone, which ComfyUI
    computes in when it is started with --fp64-unet: there the dtypes would not fit together.
    """
    inference = compute_dtype(model)
    in_fp32 = {model.model.get_dtype(), inference} == {torch.float32}
    if inference == torch.float64 or (dtype == torch.float32 and not in_fp32):
        model = model.clone()
        model.set_model_compute_dtype(torch.float32)
    elif dtype == torch.bfloat16 and inference == torch.float16:
        model = model.clone()
        model.add_object_patch("manual_cast_dtype", torch.float32)
    return model
