"""Writes LoRA files of SD 1.5 and SDXL, and what ComfyUI makes of the weights with them, for
test_diffusers.py.

usage: python lora_files_of_unets.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)

The models are tiny ones with random weights, and so are the LoRAs. Weights are under the names that
Hugging Face's libraries have for them, by ComfyUI's own map.
"""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]), server=False)
load_pack()

import comfy.utils  # noqa: E402
import torch  # noqa: E402
from comfyui_dadapt_lora.comfy_host.layers import target_layers  # noqa: E402
from comfyui_dadapt_lora.comfy_host.loading import load_together  # noqa: E402
from comfyui_dadapt_lora.comfy_host.lora_model import LoraModel, apply_lora  # noqa: E402
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.file import lora_tensors, write_lora  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.lora import new_adapter  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny_families.models import load_tiny  # noqa: E402
from tiny_families.text_encoders import tiny_clip  # noqa: E402

FAMILIES = ("SD15", "SDXL")
CONFIGS = {"usual": LoraConfig(dim=4), "with convolutions": LoraConfig(dim=4, conv_dim=2)}


def random_lora(model, clip, config):
    """The tensors of a file in which nothing is zero."""
    family, generator = family_of_model(model), torch.Generator().manual_seed(0)
    adapters = [
        new_adapter(layer.name, layer.part, layer.module, layer.dim, generator, torch.device("cpu"))
        for layer in target_layers(model, clip, family, config, family.text_encoders)
    ]
    for one in adapters:
        one.up.data = torch.randn(one.up.shape, generator=generator) * 0.1
    return lora_tensors(adapters)


def write_weights(model, clip, folder):
    """One file per network, as ComfyUI computes with it."""
    load_together([model, clip.patcher], 0)
    unet = model.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    folder.mkdir(parents=True)
    save_file(
        {name: unet[weight].clone() for name, weight in names.items() if weight in unet},
        folder / "unet.safetensors",
    )
    for part, encoder in clip.cond_stage_model.named_children():
        save_file(
            {name: weight.clone() for name, weight in encoder.transformer.state_dict().items()},
            folder / f"{part}.safetensors",
        )


def main():
    files = Path(sys.argv[2]) / "files"
    for family in FAMILIES:
        model, clip = load_tiny(family), tiny_clip(family)
        write_weights(model, clip, files / family / "before")
        for name, config in CONFIGS.items():
            tensors = random_lora(model, clip, config)
            write_lora(files / family / f"{name}.safetensors", tensors, {})
            patched = apply_lora(model, clip, LoraModel(tensors, {}, {}))
            write_weights(*patched, files / family / name)
    sys.stdout.write(json.dumps({"folder": str(files)}) + "\n")


with torch.inference_mode():
    main()
