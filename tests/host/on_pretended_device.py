"""Trains through the host's own code on a device that is not the CPU, and on the CPU. Run by
test_other_device.py.

usage: python on_pretended_device.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)

The device is pretended (pretended_device.py), and ComfyUI is told that it is what it would find on a machine
with a GPU.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from devhost.inprocess import start_comfyui  # noqa: E402
from devhost.pack import load_pack  # noqa: E402

start_comfyui(*map(Path, sys.argv[1:3]))
load_pack()

import comfy.model_management as management  # noqa: E402
import comfy.sd  # noqa: E402
import folder_paths  # noqa: E402
import pretended_device  # noqa: E402  beside this file
import torch  # noqa: E402
from comfyui_dadapt_lora.comfy_host.job import Job  # noqa: E402
from comfyui_dadapt_lora.comfy_host.progress import Progress  # noqa: E402
from comfyui_dadapt_lora.comfy_host.train_lora import train_lora  # noqa: E402
from comfyui_dadapt_lora.trainer.data.dataset import read_dataset  # noqa: E402
from comfyui_dadapt_lora.trainer.run.events import StepRecord  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig  # noqa: E402
from comfyui_dadapt_lora.trainer.settings.run import RunConfig  # noqa: E402
from graph import EAGER  # noqa: E402  beside this file
from tiny_families.models import load_tiny  # noqa: E402
from tiny_families.text_encoders import tiny_clip  # noqa: E402
from tiny_families.vae import tiny_vae  # noqa: E402

STEPS = 4
PICTURES = 3
# MB that are free on the device: for everything, for part of the UNet, for the UNet and part of the text
# encoder
MUCH, LITTLE, LESS_THAN_ALL = 8000, 1250, 1300


def as_on_a_gpu(fp16: bool, megabytes: int) -> None:
    """What ComfyUI finds out about a GPU, said to it: a device of its own, its free memory, and that it is
    fast in fp16.
    """
    free = megabytes * 2**20
    management.cpu_state = management.CPUState.GPU
    management.vram_state = management.set_vram_to = management.VRAMState.NORMAL_VRAM
    management.get_torch_device = lambda: pretended_device.DEVICE
    management.get_free_memory = lambda device=None, torch_free_too=False: (
        (free, free) if torch_free_too else free
    )
    management.get_total_memory = lambda device=None, torch_total_too=False: (
        (free, free) if torch_total_too else free
    )
    management.should_use_fp16 = lambda *_, **__: fp16
    management.should_use_bf16 = management.supports_fp8_compute = lambda *_, **__: False


class Watching:
    """Where the models are and how often the device was waited for, at each step."""

    def __init__(self, models) -> None:
        self.models = models
        self.waits = []
        self.devices = {}
        self.losses = []
        self._before = pretended_device.waits

    def hear(self, event) -> None:
        if not isinstance(event, StepRecord):
            return
        self.waits.append(pretended_device.waits - self._before)
        self.devices = {name: kinds(module) for name, module in self.models.items()}
        self.losses.append(event.loss)
        self._before = pretended_device.waits


def kinds(module) -> list[str]:
    return sorted({parameter.device.type for parameter in module.parameters()})


def demo():
    path = folder_paths.get_full_path_or_raise("checkpoints", "emoji-sd15.safetensors")
    return comfy.sd.load_checkpoint_guess_config(path, output_vae=True, output_clip=True)[:3]


def tiny():
    """For 16 bits, which this machine's CPU may have to emulate."""
    return load_tiny("SD15"), tiny_clip("SD15"), tiny_vae(4)


TINY = {"load": tiny, "side": 128}  # its lowest level has one pixel at 64


def trained(
    load=demo, side=64, precision="fp32", text_encoder=True, checkpointing="off", recipe=EAGER, **run
):
    """One run on freshly loaded models: the LoRA, and what was seen on the way."""
    management.unload_all_models()
    with torch.inference_mode():  # as the host's executor
        model, clip, vae = load()
        weight = model.model.diffusion_model.out[2].weight
        before, place = weight.to("cpu", copy=True), model.model.diffusion_model.out[2].weight.device.type
        pictures = read_dataset(ROOT / "demo" / "dataset" / "heldout", DatasetConfig(resolution=side))
        pictures = type(pictures)(**vars(pictures) | {"pictures": pictures.pictures[:PICTURES]})
        config = RunConfig(
            **{"duration": STEPS, "precision": precision, "checkpointing": checkpointing} | run
        )
        watching = Watching(
            {
                "unet": model.model.diffusion_model,
                "text encoder": clip.cond_stage_model,
                "vae": vae.first_stage_model,
            }
        )
        job = Job(
            pictures,
            LoraConfig(dim=4, train_text_encoder=text_encoder),
            OptimizerConfig(**recipe),
            config,
            "emoji",
        )
        lora, report = train_lora(model, clip, vae, job, Progress(None), [watching])
        management.unload_all_models()
        after = model.model.diffusion_model.out[2].weight
    seen = {
        "losses": watching.losses,
        "waits": watching.waits,
        "devices": watching.devices,
        "on": report.text.split(" on ", 1)[1].split(",")[0],
        "in part": "loaded in part" in report.text,
        "given back": [place, after.device.type, bool(torch.equal(before, after.to("cpu")))],
    }
    return lora, seen


def difference(lora, reference) -> float:
    """The largest of any tensor, over that tensor's largest value."""
    return max(
        ((lora[name] - reference[name]).abs().max() / reference[name].abs().max().clamp(min=1e-12)).item()
        for name in reference
    )


def main() -> None:
    found = {}
    reference, found["cpu"] = trained()
    _, found["cpu, tiny"] = trained(**TINY)
    with pretended_device.PretendedDevice():
        for name, (fp16, megabytes), settings in [
            ("fp32", (False, MUCH), {}),
            ("text encoder there too", (True, MUCH), {}),
            ("checkpointed", (True, MUCH), {"checkpointing": "on"}),
            ("UNet in part", (True, LITTLE), {}),
            ("text encoder in part", (True, LESS_THAN_ALL), {}),
        ]:
            as_on_a_gpu(fp16, megabytes)
            lora, found[name] = trained(**settings)
            found[name]["difference"] = difference(lora, reference)
        as_on_a_gpu(fp16=True, megabytes=MUCH)
        for name, settings in {
            "tiny": TINY,
            "fp16": TINY | {"precision": "fp16"},
            "bf16": TINY | {"precision": "bf16"},
            "one part": {"text_encoder": False},
            "long": TINY | {"duration": 12, "recipe": EAGER | {"burn_guard": False}},
        }.items():
            found[name] = trained(**settings)[1]
    sys.stdout.write(json.dumps(found) + "\n")


main()
