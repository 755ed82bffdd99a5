"""What our noise levels are on a model as ComfyUI loads it, and behind each of its ModelSampling nodes; what
we say that the model predicts. Run by test_noise_levels.py.

usage: python noise_levels.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)
"""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]))
load_pack()

import comfy.model_base as base  # noqa: E402
import comfy.model_management as management  # noqa: E402
import comfy.sd  # noqa: E402
import comfy_extras.nodes_model_advanced as advanced  # noqa: E402
import folder_paths  # noqa: E402
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
from comfyui_dadapt_lora.comfy_host.prediction import Predicts, kind_in_file  # noqa: E402
from comfyui_dadapt_lora.comfy_host.sampling import NoiseLevels  # noqa: E402
from comfyui_dadapt_lora.trainer.errors import ModelError  # noqa: E402
from comfyui_dadapt_lora.trainer.objective.weighting import Weighting  # noqa: E402

BASE = Path(sys.argv[2])
U = torch.cat((torch.arange(20, dtype=torch.float64) / 20, torch.tensor([0.9995], dtype=torch.float64)))
NODES = {
    "none": lambda model: model,
    "discrete eps": lambda model: discrete(model, "eps", False),
    "discrete eps zsnr": lambda model: discrete(model, "eps", True),
    "discrete v": lambda model: discrete(model, "v_prediction", False),
    "discrete v zsnr": lambda model: discrete(model, "v_prediction", True),
    "discrete x0": lambda model: discrete(model, "x0", False),
    "discrete lcm": lambda model: discrete(model, "lcm", False),
    "continuous v": lambda model: advanced.ModelSamplingContinuousV().patch(
        model, "v_prediction", 500.0, 0.03
    )[0],
    "edm eps": lambda model: edm(model, "eps"),
    "edm v": lambda model: edm(model, "v_prediction"),
    "edm edm": lambda model: edm(model, "edm"),
    "edm playground": lambda model: edm(model, "edm_playground_v2.5"),
    "edm cosmos": lambda model: edm(model, "cosmos_rflow"),
    "cascade": lambda model: advanced.ModelSamplingStableCascade().patch(model, 2.0)[0],
    "sd3": lambda model: advanced.ModelSamplingSD3().patch(model, 3.0)[0],
    "aura": lambda model: advanced.ModelSamplingAuraFlow().patch_aura(model, 1.73)[0],
    "flux": lambda model: advanced.ModelSamplingFlux().patch(model, 1.15, 0.5, 1024, 1024)[0],
    "rescale cfg": lambda model: advanced.RescaleCFG().patch(model, 0.7)[0],
}


def discrete(model, sampling, zsnr):
    return advanced.ModelSamplingDiscrete().patch(model, sampling, zsnr)[0]


def edm(model, sampling):
    return advanced.ModelSamplingContinuousEDM().patch(model, sampling, 120.0, 0.002)[0]


def load():
    with torch.inference_mode():
        path = folder_paths.get_full_path_or_raise("checkpoints", "emoji-sd15.safetensors")
        return comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False)[0]


def numbers(model) -> dict:
    """The levels at U, as lists; and how far ComfyUI's own picture of our target is from the latents."""
    sampling = model.get_model_object("model_sampling")
    levels = NoiseLevels(sampling).levels(U)
    predicts = Predicts.of(model, None)
    return {
        "sigmas": levels.sigmas.tolist(),
        "of latents": levels.of_latents.tolist(),
        "of noise": levels.of_noise.tolist(),
        "target of latents": levels.target_of_latents.tolist(),
        "target of noise": levels.target_of_noise.tolist(),
        "snr": levels.snr.tolist(),
        "min-SNR": Weighting("min-SNR", 5.0).of(levels).tolist(),
        "off": max(off(sampling, levels, shape) for shape in [(4, 8, 8), (16, 1, 8, 8)]),
        "predicts": str(predicts.used),
        "flow": predicts.used.is_flow,
        "said": list(predicts.warnings()),
    }


def off(sampling, levels, shape) -> float:
    """ComfyUI noises a batch and makes a picture of our target, which should be the latents again: the
    largest difference of both from ours, over the largest value.
    """
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(len(U), *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    noised = levels.noised(latents, noise)
    theirs = sampling.noise_scaling(levels.sigmas, noise.clone(), latents.clone(), False)
    picture = sampling.calculate_denoised(levels.sigmas, levels.target(latents, noise), noised)
    return max(
        ((noised - theirs).abs().max() / noised.abs().max()).item(),
        ((picture - latents).abs().max() / latents.abs().max()).item(),
    )


def file(name: str, keys=(), **header) -> Path:
    """A checkpoint's file with these names in it, and this in its header."""
    path = BASE / f"{name}.safetensors"
    safetensors.torch.save_file({key: torch.zeros(1) for key in ("a", *keys)}, path, header or None)
    return path


def files() -> dict[str, Path | None]:
    (BASE / "broken.safetensors").write_bytes(b"no file of this format")
    return {
        "nothing": file("nothing"),
        "v_pred": file("v_pred", ["v_pred", "ztsnr"]),
        "edm v": file("edm_v", ["edm_vpred.sigma_max"]),
        "playground": file("playground", ["edm_mean", "edm_std"]),
        "says epsilon": file("epsilon", **{"modelspec.prediction_type": "epsilon"}),
        "says v": file("v", **{"modelspec.prediction_type": "v"}),
        "v_pred, says epsilon": file("both", ["v_pred"], **{"modelspec.prediction_type": "epsilon"}),
        "broken": BASE / "broken.safetensors",
        "gone": BASE / "gone.safetensors",
        "unknown": None,
    }


def judged(model, path) -> dict:
    predicts = Predicts.of(model, path)
    try:
        predicts.refuse_what_the_file_denies()
        return {"refused": "", "said": list(predicts.warnings())}
    except ModelError as error:
        return {"refused": str(error), "said": []}


def of_a_v_checkpoint(model) -> dict:
    """ComfyUI has read v from the checkpoint by itself, as it does of SDXL's."""
    own = model.model.model_sampling
    model.model.model_sampling = base.model_sampling(model.model.model_config, base.ModelType.V_PREDICTION)
    patched = discrete(model, "eps", False)
    try:
        found = {"alone": judged(model, None), "eps by a node": judged(patched, None)}
        management.load_models_gpu([patched])  # puts the node's object where the model's own was
        found["loaded"] = judged(patched, None)
        found["alone, while the other is loaded"] = judged(model, None)
        return found
    finally:
        management.unload_all_models()
        model.model.model_sampling = own


def main():
    model = load()
    paths = files()
    result = {
        "u": U.tolist(),
        "levels": {name: numbers(node(model)) for name, node in NODES.items()},
        "in file": {name: kind_in_file(path) for name, path in paths.items()},
        "no node": {name: judged(model, path) for name, path in paths.items()},
        "eps by a node": {name: judged(discrete(model, "eps", False), path) for name, path in paths.items()},
        "v by a node": {name: judged(discrete(model, "v_prediction", False), p) for name, p in paths.items()},
        "of a v checkpoint": of_a_v_checkpoint(model),
    }
    sys.stdout.write(json.dumps(result) + "\n")


main()
