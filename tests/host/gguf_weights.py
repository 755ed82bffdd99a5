"""Layers of weights from a GGUF file, built as those of ComfyUI-GGUF are: that custom node is not there where
the tests run.

The tensor's class and the layer do what those of its ops.py do at commit 795e451, apart from LoRAs that are
applied upstream. The packing is one of theirs (Q8_0): blocks of 32 numbers, each an fp16 scale and 32
integers. Imported after ComfyUI has been started.
"""

import comfy.ops
import torch
from torch import Tensor, nn

BLOCK = 32
PLAIN = "F32"
PACKED = "Q8_0"


class GGMLTensor(Tensor):
    """Its data are bytes where `tensor_type` is PACKED. `tensor_shape` is that of the numbers."""

    def __new__(cls, *args, tensor_type, tensor_shape, **kwargs):
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args, tensor_type, tensor_shape, **kwargs):
        super().__init__()
        self.tensor_type = tensor_type
        self.tensor_shape = tensor_shape

    def to(self, *args, **kwargs):
        new = super().to(*args, **kwargs)
        new.tensor_type = getattr(self, "tensor_type", None)
        new.tensor_shape = getattr(self, "tensor_shape", new.data.shape)
        return new

    def clone(self, *args, **kwargs):
        return self

    def detach(self, *args, **kwargs):
        return self

    @property
    def shape(self):
        if not hasattr(self, "tensor_shape"):
            self.tensor_shape = self.size()
        return self.tensor_shape


def packed(numbers: Tensor) -> GGMLTensor:
    blocks = numbers.reshape(-1, BLOCK)
    scales = (blocks.abs().amax(dim=1, keepdim=True) / 127).half()
    integers = (blocks / scales.float()).round().to(torch.int8)
    rows = torch.cat([scales.view(torch.uint8), integers.view(torch.uint8)], dim=1)
    return GGMLTensor(rows.view(len(numbers), -1), tensor_type=PACKED, tensor_shape=numbers.shape)


def plain(numbers: Tensor) -> GGMLTensor:
    return GGMLTensor(numbers, tensor_type=PLAIN, tensor_shape=numbers.shape)


def is_packed(tensor) -> bool:
    return getattr(tensor, "tensor_type", None) == PACKED


def numbers_of(tensor, dtype: torch.dtype) -> Tensor:
    """They are computed anew at each use."""
    numbers = tensor.to(dtype)
    if is_packed(tensor):
        rows = tensor.data.reshape(-1, tensor.data.shape[-1]).view(torch.uint8).reshape(-1, BLOCK + 2)
        scales, integers = torch.split(rows, [2, BLOCK], dim=1)
        numbers = scales.view(torch.float16).to(None) * integers.view(torch.int8)
        numbers = numbers.reshape(tensor.tensor_shape).to(dtype)
    return torch.Tensor(numbers) if isinstance(numbers, GGMLTensor) else numbers


class Linear(comfy.ops.manual_cast.Linear):
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward_comfy_cast_weights(self, input, *args, **kwargs):
        if is_packed(self.weight) or is_packed(self.bias):
            output = self.forward_ggml_cast_weights(input, *args, **kwargs)
        else:
            output = super().forward_comfy_cast_weights(input, *args, **kwargs)
        return torch.Tensor(output) if isinstance(output, GGMLTensor) else output

    def forward_ggml_cast_weights(self, input):
        weight, bias = (
            numbers_of(tensor.to(input.device), input.dtype) for tensor in (self.weight, self.bias)
        )
        return nn.functional.linear(input, weight, bias)
