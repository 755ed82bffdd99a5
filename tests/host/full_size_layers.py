"""Counts the layers that LoRA Config adapts by default in models of their real size. Run by
test_full_size_layers.py.

usage: python full_size_layers.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)

The models are ComfyUI's own classes on PyTorch's meta device, where weights have shapes and no values. Of
each:

- "class": ComfyUI's
- "detected": the class that ComfyUI takes a file for whose weights have these names and shapes
- "chosen": how many layers are adapted
- "in blocks": how many linear layers and 1x1 convolutions the repeated blocks have
- "outside": adapted layers that are in no block
- "lists": blocks that are a list of modules, which nobody calls

And "classes": the name of the family that each of ComfyUI's classes is of, whether it makes pictures or not.
"""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]), server=False)
load_pack()

import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from comfy.model_detection import detect_unet_config, model_config_from_unet_config  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.choice import unet_layers  # noqa: E402
from comfyui_dadapt_lora.trainer.families import family_of  # noqa: E402
from comfyui_dadapt_lora.trainer.layers.blocks import blocks_of, layers_inside  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig  # noqa: E402
from full_size_configs import FULL_SIZE  # noqa: E402
from tiny_families.detection import tiny_metadata, tiny_model_config  # noqa: E402

META = torch.device("meta")


def full_size(name):
    """A MODEL without values."""
    config = tiny_model_config(tiny_metadata(name, *FULL_SIZE[name]))
    config.set_inference_dtype(torch.bfloat16, None)
    return ModelPatcher(config.get_model({}, "", device=META), META, META)


def counted(name):
    model = full_size(name)
    network = model.model.diffusion_model
    blocks = blocks_of(network)
    inside = {layer for layer, module in layers_inside(blocks).items() if not is_large_convolution(module)}
    chosen = unet_layers(network, family_of_model(model), LoraConfig())
    weights = network.state_dict()
    detected = model_config_from_unet_config(detect_unet_config(weights, ""), weights)
    return {
        "class": type(model.model.model_config).__name__,
        "detected": type(detected).__name__,
        "chosen": len(chosen),
        "in blocks": len(inside),
        "outside": sorted(chosen.keys() - inside),
        "lists": [block for block, module in blocks.items() if isinstance(module, torch.nn.ModuleList)],
    }


def is_large_convolution(module):
    return max(getattr(module, "kernel_size", (1,))) > 1


def family_by_class():
    return {
        one.__name__: family_of((base.__name__ for base in one.__mro__), is_flow=True).name
        for one in comfy.supported_models.models
    }


def main():
    result = {"models": {name: counted(name) for name in FULL_SIZE}, "classes": family_by_class()}
    sys.stdout.write(json.dumps(result) + "\n")


main()
