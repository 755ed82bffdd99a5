"""Convolutions on a CPU that are faster as one matrix product: large weights at few output positions.

PyTorch reorders the weight for each call. The reordered copy is in new memory each time where it is larger
than what the C library reuses (32 MiB in glibc). At up to 64 output positions, as in SD 1.5's lowest levels,
forward and backward of its largest convolutions take 2 to 5 times as long as the matrix product.
"""

import math

from torch import Tensor, nn
from torch.nn.functional import unfold

from .wrapping import Forward

LARGE_WEIGHT = 24 * 2**20  # bytes
MOST_POSITIONS = 64  # height * width of the output, times the pictures of the batch


def quick_convolution(module: nn.Conv2d, forward: Forward) -> Forward:
    """The forward of a frozen convolution that takes the matrix product wherever it is faster.

    The weight must be used as it is: `forward` may not patch it on the way.
    """
    if module.groups > 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return forward
    return lambda x: convolution_as_product(module, x) if is_faster_as_product(module, x) else forward(x)


def is_faster_as_product(module: nn.Conv2d, x: Tensor) -> bool:
    """Whether the product is faster for x [batch, channels, height, width] in the weight's dtype."""
    on_cpu = x.device.type == module.weight.device.type == "cpu"
    if not on_cpu or module.weight.nbytes < LARGE_WEIGHT:
        return False
    return len(x) * math.prod(_output_size(module, x)) <= MOST_POSITIONS


def convolution_as_product(module: nn.Conv2d, x: Tensor) -> Tensor:
    """The output [batch, out, height, width] of `module` for x [batch, channels, height, width].

    The weight as a matrix [out, channels * kernel] is multiplied with the patches of x that it covers.
    """
    height, width = _output_size(module, x)
    # [batch, channels * kernel, positions]
    patches = unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)
    output = module.weight.flatten(1) @ patches.transpose(0, 1).flatten(1)
    if module.bias is not None:
        output = output + module.bias.to(output.dtype)[:, None]
    return output.unflatten(1, (len(x), height, width)).transpose(0, 1)


def _output_size(module: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    """Height and width of the output, by the formula in nn.Conv2d's documentation."""
    height, width = (
        (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for length, padding, dilation, kernel, stride in zip(
            x.shape[2:], module.padding, module.dilation, module.kernel_size, module.stride, strict=True
        )
    )
    return height, width
