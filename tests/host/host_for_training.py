"""What the host does for inference and training cannot take: whether it is otherwise while training, and as
it was afterwards. Run by test_host_for_training.py.

usage: python host_for_training.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)
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

import comfy.model_management as management  # noqa: E402
import comfy.sd  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfyui_dadapt_lora.comfy_host.compute_dtype import compute_dtype, computing_in  # noqa: E402
from comfyui_dadapt_lora.comfy_host.inference_tensors import trainable  # noqa: E402
from comfyui_dadapt_lora.comfy_host.loading import without_dynamic_loading  # noqa: E402
from comfyui_dadapt_lora.comfy_host.refusals import refuse_quantized  # noqa: E402
from comfyui_dadapt_lora.comfy_host.text_encoder import HostTextEncoder  # noqa: E402
from comfyui_dadapt_lora.trainer.errors import ModelError  # noqa: E402

MATMUL = torch.backends.cuda.matmul


def load():
    with torch.inference_mode():
        path = folder_paths.get_full_path_or_raise("checkpoints", "emoji-sd15.safetensors")
        return comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=True)[:2]


def settings():
    """As names or numbers, of what a user or a GPU would set; a CPU has them all, without effect."""
    return [management.NUM_STREAMS, MATMUL.allow_fp16_accumulation, str(management.intermediate_device())]


def of_a_run(model, clip):
    """The settings before, while training, and afterwards; set by hand to what they would be on a GPU."""
    management.NUM_STREAMS, MATMUL.allow_fp16_accumulation = 2, True
    management.intermediate_device = lambda: torch.device("meta")
    encoder = HostTextEncoder(clip, ["clip_l"])
    before = settings()
    with trainable([encoder.module]), encoder.ready():
        inside = settings()
    return {"before": before, "inside": inside, "after": settings()}


def activations(model, inference):
    """The dtype of activations in a run of each precision, with a model that ComfyUI computes in
    `inference`.
    """
    model = model.clone()
    model.set_model_compute_dtype(inference)
    dtypes = {
        dtype: compute_dtype(computing_in(model, dtype))
        for dtype in (torch.float16, torch.bfloat16, torch.float32)
    }
    return {str(run): str(host) for run, host in dtypes.items()} | {"afterwards": str(compute_dtype(model))}


class Streamed:
    """Stands for a MODEL or CLIP of ComfyUI 0.33, which only NVIDIA's GPUs make it stream in.

    Its CLIP's clone keeps the old module.
    """

    def __init__(self, model="streamed", from_file=True):
        self.model, self.cached_patcher_init = model, ("a loader", "its arguments") if from_file else None
        self.cond_stage_model, self.patcher = model, self

    def is_dynamic(self):
        return self.model == "streamed"

    def clone(self, disable_dynamic):
        return SimpleNamespace(
            patcher=SimpleNamespace(model="loaded"), cond_stage_model=self.cond_stage_model, model="loaded"
        )


def streamed():
    model, clip = without_dynamic_loading(Streamed(), Streamed())
    try:
        without_dynamic_loading(Streamed(), Streamed(from_file=False))
        error = ""
    except ModelError as refused:
        error = str(refused)
    return {
        "model": model.model,
        "clip's patcher": clip.patcher.model,
        "clip's module": clip.cond_stage_model,
        "error": error,
    }


class Packed(torch.Tensor):
    """Stands for GGUF's weights, whose bytes are packed numbers."""


def quantized(model):
    refuse_quantized(model)  # not yet
    layer = model.model.diffusion_model.out[2]
    layer.weight = torch.nn.Parameter(layer.weight.data.as_subclass(Packed), requires_grad=False)
    try:
        refuse_quantized(model)
    except ModelError as refused:
        return str(refused)


def main():
    model, clip = load()
    result = {
        "settings": of_a_run(model, clip),
        "activations": activations(model, torch.float16),
        "activations of fp64": activations(model, torch.float64),
        "streamed": streamed(),
        "quantized": quantized(model),
    }
    sys.stdout.write(json.dumps(result) + "\n")


main()
