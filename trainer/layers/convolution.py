"""Convolution where PyTorch's own is slow: on a CPU, with a large weight and few places in the picture to use
it at.

PyTorch brings the weight into another order each time, in memory that is new each time where it is more than
a C library keeps for the next (32 MiB in glibc). At up to 64 places, as in SD 1.5's lowest levels, forward
and backward of its largest convolutions take 2 to 5 times as long as this.
"""

import math

from torch import Tensor, nn
from torch.nn.functional import unfold

from .wrapping import Forward

LARGE_WEIGHT = 24 * 2**20  # bytes
FEW_PLACES = 64  # of all pictures of a batch together


def quick_convolution(module: nn.Conv2d, forward: Forward) -> Forward:
    """`forward`, or the product where that is faster, of a frozen convolution whose weight is used as it
    is.
    """
    if module.groups > 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return forward
    return lambda x: convolution_as_product(module, x) if is_faster_as_product(module, x) else forward(x)


def is_faster_as_product(module: nn.Conv2d, x: Tensor) -> bool:
    """x: [batch, channels, height, width], in the weight's dtype."""
    large_on_cpu = (
        x.device.type == module.weight.device.type == "cpu" and module.weight.nbytes >= LARGE_WEIGHT
    )
    return large_on_cpu and len(x) * math.prod(_output_size(module, x)) <= FEW_PLACES


def convolution_as_product(module: nn.Conv2d, x: Tensor) -> Tensor:
    """What `module` gives for x [batch, channels, height, width]: its weight as one matrix times what it
    covers at each place.
    """
    height, width = _output_size(module, x)
    columns = unfold(
        x, module.kernel_size, module.dilation, module.padding, module.stride
    )  # [batch, channels * kernel, places]
    output = module.weight.flatten(1) @ columns.transpose(0, 1).flatten(1)
    if module.bias is not None:
        output = output + module.bias.to(output.dtype)[:, None]
    return output.unflatten(1, (len(x), height, width)).transpose(0, 1)


def _output_size(module: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    """Height and width, as nn.Conv2d's documentation gives them."""
    height, width = (
        (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for length, padding, dilation, kernel, stride in zip(
            x.shape[2:], module.padding, module.dilation, module.kernel_size, module.stride, strict=True
        )
    )
    return height, width
