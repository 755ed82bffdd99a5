"""Which layers a LoRA can adapt at all, the shapes of their weights, and choosing among them by name."""

from torch import nn


def is_adaptable(module: nn.Module) -> bool:
    """Whether a LoRA can adapt the module: a linear layer, or a 2D convolution without groups."""
    return is_linear(module) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer. ComfyUI's for quantized weights are no `nn.Linear`."""
    return isinstance(module, nn.Linear) or all(
        hasattr(module, name) for name in ("in_features", "out_features", "forward_comfy_cast_weights")
    )


def weight_shape(module: nn.Module) -> tuple[int, ...]:
    """[out, in] of a linear layer's weight, [out, in, height, width] of a convolution's.

    Quantized weights have this shape as well, in whatever shape their bytes are stored.
    """
    weight = module.weight
    if hasattr(weight, "tensor_shape"):  # GGUF's, in ComfyUI-GGUF
        return tuple(weight.tensor_shape)
    if type(weight) is nn.Parameter and weight.is_floating_point():
        return tuple(weight.shape)
    if is_linear(module):
        return module.out_features, module.in_features
    return module.out_channels, module.in_channels, *module.kernel_size
