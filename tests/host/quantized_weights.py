"""Trains through the layers that ComfyUI has for quantized weights. Run by test_quantized_weights.py.

usage: python quantized_weights.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)

The gradients are set against those of plain linear layers, whose weights are the numbers that the quantized
ones stand for.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]))
load_pack()

import comfy.ops  # noqa: E402
import gguf_weights  # noqa: E402  beside this file
import torch  # noqa: E402
from comfy.quant_ops import QuantizedTensor, TensorCoreFP8Layout  # noqa: E402
from comfyui_dadapt_lora.comfy_host.inference_tensors import trainable  # noqa: E402
from comfyui_dadapt_lora.comfy_host.refusals import refuse_quantized  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.hooks import attached  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.lora import lora_values, new_adapter  # noqa: E402
from comfyui_dadapt_lora.trainer.errors import ModelError  # noqa: E402
from comfyui_dadapt_lora.trainer.layers.frozen import save_memory  # noqa: E402
from torch import nn  # noqa: E402

WIDTH, TOKENS = 64, 16
FP8 = torch.float8_e4m3fn

# layers of quantized weights, each with the numbers that its weight stands for ------------------------------


def loaded(layer, **tensors):
    layer.load_state_dict(tensors)
    return layer.eval().requires_grad_(False)


def plain_fp8(operations, dtype=FP8):
    weight = (torch.randn(WIDTH, WIDTH) / 8).to(dtype)
    layer = operations.Linear(WIDTH, WIDTH, device="cpu", dtype=dtype)
    return loaded(layer, weight=weight, bias=torch.zeros(WIDTH).to(dtype)), weight.float()


def scaled_fp8(products):
    """Few tokens or many: ComfyUI scales the smaller of weight and input. Here the input is the smaller."""
    operations = comfy.ops.scaled_fp8_ops(products, scale_input=products, override_dtype=FP8)
    weight, scale = (torch.randn(WIDTH, WIDTH) * 5).to(FP8), torch.tensor(0.023)
    layer = operations.Linear(WIDTH, WIDTH, device="cpu", dtype=torch.bfloat16)
    tensors = {"weight": weight, "bias": torch.zeros(WIDTH).to(FP8), "scale_weight": scale}
    scale_input = {"scale_input": torch.tensor(0.01)} if products else {}
    return loaded(layer, **tensors, **scale_input), weight.float() * scale


def mixed_precision(full_precision, **tensors):
    bytes_, layout = TensorCoreFP8Layout.quantize(torch.randn(WIDTH, WIDTH) / 8)
    operations = comfy.ops.mixed_precision_ops(
        {"0": {"format": "float8_e4m3fn"}}, torch.bfloat16, full_precision_mm=full_precision
    )
    network = nn.Sequential(operations.Linear(WIDTH, WIDTH))
    tensors |= {"weight": bytes_, "weight_scale": layout["scale"], "bias": torch.zeros(WIDTH)}
    network.load_state_dict({f"0.{name}": tensor for name, tensor in tensors.items()}, strict=False)
    return network[0].requires_grad_(False), bytes_.float() * layout["scale"]


def from_gguf(make):
    weight = make(torch.randn(WIDTH, WIDTH) / 8)
    bias = gguf_weights.plain(torch.zeros(WIDTH))
    numbers = gguf_weights.numbers_of(weight, torch.float32).clone()
    return gguf_weights.Linear(weight, bias), numbers


CASES = {
    "fp8": lambda: plain_fp8(comfy.ops.manual_cast),
    "fp8 e5m2": lambda: plain_fp8(comfy.ops.manual_cast, torch.float8_e5m2),
    "fp8, fast": lambda: plain_fp8(comfy.ops.fp8_ops),
    "scaled fp8": lambda: scaled_fp8(products=False),
    "scaled fp8, fast": lambda: scaled_fp8(products=True),
    "QuantizedTensor": lambda: mixed_precision(full_precision=True),
    "QuantizedTensor on a GPU with fp8": lambda: mixed_precision(full_precision=False),
    "QuantizedTensor, fast": lambda: mixed_precision(full_precision=False, input_scale=torch.tensor(0.02)),
    "GGUF": lambda: from_gguf(gguf_weights.packed),
    "GGUF in fp32": lambda: from_gguf(gguf_weights.plain),
}

# training through them --------------------------------------------------------------------------------------


def forward(layers, x):
    """With a slice after each layer, so that inputs are not contiguous."""
    for layer in layers:
        x = layer(x)[:, 1:]
    return x


def gradients(layers, tokens, autocast):
    """Of the input and of a LoRA on the first layer."""
    adapter = new_adapter("a", "unet", layers[0], 4, torch.Generator().manual_seed(0), torch.device("cpu"))
    adapter.up.data.normal_(generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, tokens, WIDTH, generator=torch.Generator().manual_seed(2)).requires_grad_()
    with attached([adapter]), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = forward(layers, x)
    (output.float() * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    return torch.cat([tensor.grad.flatten() for tensor in (x, adapter.down, adapter.up)])


def as_linear(numbers):
    layer = nn.Linear(*numbers.shape[::-1], bias=False)
    layer.weight = nn.Parameter(numbers.clone(), requires_grad=False)
    return layer


def inferred(layers):
    with torch.inference_mode():
        return forward(layers, torch.ones(1, TOKENS, WIDTH, dtype=torch.bfloat16))


def of_case(make, infers):
    torch.manual_seed(0)
    with torch.inference_mode():  # as ComfyUI's executor runs loader nodes
        layers, numbers = zip(*(make() for _ in range(3)), strict=True)
        before = inferred(layers) if infers else None
    weights = [dict(layer._parameters) for layer in layers]
    network = nn.ModuleList(layers)
    result = {"values": lora_values([layers[0]], 4), "refused": refusal(network)}
    for tokens in (8, 40):
        exact = gradients([as_linear(matrix) for matrix in numbers], tokens, autocast=False)
        with trainable([network]), save_memory(layers):
            for name, autocast in {"fp32": False, "bf16": True}.items():
                found = gradients(layers, tokens, autocast)
                result[f"{name}, {tokens} tokens"] = ((found - exact).norm() / exact.norm()).item()
    result["given back"] = all(
        layer._parameters[name] is weight
        for layer, own in zip(layers, weights, strict=True)
        for name, weight in own.items()
    )
    result["infers as before"] = torch.equal(inferred(layers), before) if infers else None
    return result


def settings():
    layer = mixed_precision(full_precision=False)[0]
    original = comfy.ops.fp8_linear
    before = layer._full_precision_mm
    with trainable([layer]):
        inside = [comfy.ops.fp8_linear(layer, torch.ones(1, WIDTH)), layer._full_precision_mm]
    after = [comfy.ops.fp8_linear is original, layer._full_precision_mm]
    return {"before": before, "inside": inside, "after": after}


def memory():
    """Whether fp8 weights are no inference tensors inside the block, and lie where they were."""
    with torch.inference_mode():
        layer = plain_fp8(comfy.ops.manual_cast)[0]
        place = layer.weight.data_ptr()
    with trainable([layer]):
        weight = layer.weight
        return [weight.is_inference(), weight.data_ptr() == place, str(weight.dtype)]


# refusing ---------------------------------------------------------------------------------------------------


class Packed(torch.Tensor):
    """Stands for the weights of some other package."""


class Params4bit(nn.Parameter):
    """Stands for bitsandbytes' weights, whose data are a plain tensor."""


class CublasLinear(nn.Linear):
    """Stands for the layer of the package cublas_ops."""


def with_weight(weight):
    layer = nn.Linear(4, 4)
    layer._parameters["weight"] = weight
    return layer


def smoothed():
    layer = nn.Linear(4, 4)
    layer.pre_quant_scale = nn.Parameter(torch.ones(4))
    return layer


FOREIGN = {
    "Packed": lambda: with_weight(nn.Parameter(torch.ones(4, 4).as_subclass(Packed), requires_grad=False)),
    "Params4bit": lambda: with_weight(Params4bit(torch.ones(4, 4), requires_grad=False)),
    "int8": lambda: with_weight(nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)),
    "QuantizedTensor": lambda: with_weight(mixed_precision(full_precision=True)[0].weight),
    "GGMLTensor": lambda: with_weight(gguf_weights.packed(torch.ones(1, 32))),
    "AWQ": smoothed,
    "CublasLinear": lambda: CublasLinear(4, 4),
}


def refusal(network, clip=None):
    """What a model of this network is refused with; nothing if it is not."""
    model = SimpleNamespace(model=SimpleNamespace(diffusion_model=network))
    try:
        refuse_quantized(model, clip and SimpleNamespace(cond_stage_model=clip))
    except ModelError as error:
        return str(error)
    return ""


def main():
    assert issubclass(QuantizedTensor, torch.Tensor)
    result = {
        "cases": {name: of_case(make, infers="fast" not in name) for name, make in CASES.items()},
        "settings": settings(),
        "memory": memory(),
        "foreign": {name: refusal(make()) for name, make in FOREIGN.items()},
        "foreign text encoder": refusal(nn.Linear(4, 4), FOREIGN["Packed"]()),
        "embedding": refusal(nn.Embedding(4, 4, _weight=torch.ones(4, 4, dtype=torch.int8), _freeze=True)),
    }
    sys.stdout.write(json.dumps(result) + "\n")


main()
