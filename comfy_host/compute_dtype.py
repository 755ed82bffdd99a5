"""In what the host computes with a MODEL."""

import torch


def compute_dtype(model) -> torch.dtype:
    """What the host computes in with this MODEL, whatever its weights are kept in."""
    return model.get_model_object("manual_cast_dtype") or model.model.get_dtype()


def computing_in(model, dtype: torch.dtype):
    """A MODEL whose activations are fp32 but where autocast makes them `dtype`: it only ever goes down, and
    fp16 has not bf16's range.
    """
    if dtype == torch.float32 and {model.model.get_dtype(), compute_dtype(model)} != {torch.float32}:
        model = model.clone()
        model.set_model_compute_dtype(torch.float32)
    elif dtype == torch.bfloat16 and compute_dtype(model) == torch.float16:
        model = model.clone()
        model.add_object_patch("manual_cast_dtype", torch.float32)
    return model
