"""Whether tiny models are what tests take them for. Run by test_tiny_families.py.

usage: python tiny_families_check.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)
"""

import json
import logging
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui

start_comfyui(*map(Path, sys.argv[1:3]), server=False, pytorch_attention=False)

import comfy.model_detection  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import torch  # noqa: E402
from tiny_families.detection import wrapped_detection  # noqa: E402
from tiny_families.models import ALL, load_tiny, tiny_latents, tiny_text, write_tiny_checkpoint  # noqa: E402
from tiny_families.table import FAMILIES  # noqa: E402
from tiny_families.text_encoders import SAME, tiny_clip  # noqa: E402

CAPTIONS = ("a red apple", "the sea at night, very calm")


class Outputs:
    """What a MODEL says of latents with noise in the middle of sampling, and what it is given beside them."""

    def __init__(self, model):
        self.model, self.raw, self.conditions = model, None, []
        model.model.diffusion_model.register_forward_hook(self._catch)

    def __call__(self, latents, text):
        """The picture estimate. `raw` is what it was made of."""
        sampling = self.model.get_model_object("model_sampling")
        sigma = torch.tensor([float(sampling.percent_to_sigma(0.5))])
        noised = sampling.noise_scaling(sigma, torch.ones_like(latents), latents)
        (cond,) = comfy.samplers.encode_model_conds(
            self.model.model.extra_conds,
            [text | {"model_conds": {}}],
            latents,
            torch.device("cpu"),
            "positive",
            latent_image=latents,
        )
        self.conditions = sorted(cond["model_conds"])
        given = {
            name: one.process_cond(batch_size=1, area=None).cond for name, one in cond["model_conds"].items()
        }
        return self.model.model.apply_model(noised, sigma, transformer_options={}, **given)

    def _catch(self, module, inputs, output):
        self.raw = output


@contextmanager
def warnings_of_comfyui():
    """The messages that it logs as warnings inside the block."""
    messages, logger = [], logging.getLogger()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def checked(name, folder):
    with warnings_of_comfyui() as warnings:
        model = load_tiny(name)
    outputs, latents, text = Outputs(model), tiny_latents(model), tiny_text(model)
    output = outputs(latents, text)
    raw = outputs.raw.clone()
    result = {
        "class": type(model.model.model_config).__name__,
        "warnings": warnings,
        "parameters": sum(value.numel() for value in model.model.diffusion_model.state_dict().values()),
        "zeros": [key for key, p in model.model.diffusion_model.named_parameters() if not p.any()],
        "as loaded by a node": all(p.is_inference() for p in model.model.diffusion_model.parameters()),
        "latents": list(latents.shape),
        "output": list(output.shape),
        "size": raw.square().mean().sqrt().item(),
        "conditions": outputs.conditions,
        "by latents": change(outputs, raw, tiny_latents(model, seed=1), text),
        "by text": change(outputs, raw, latents, tiny_text(model, seed=1)),
        "from file": torch.equal(from_file(name, folder)(latents, text), output),
    }
    return result | (with_clip(name, model, outputs) if name in FAMILIES else {})


def change(outputs, raw, latents, text):
    """How far the raw output moves, over its size."""
    outputs(latents, text)
    return ((outputs.raw - raw).norm() / raw.norm()).item()


def from_file(name, folder):
    path = folder / f"{name}.safetensors"
    write_tiny_checkpoint(path, name)
    with wrapped_detection():
        model = comfy.sd.load_diffusion_model(str(path))
    path.unlink()
    return Outputs(model)


def with_clip(name, model, outputs):
    """The same with two captions, encoded as ComfyUI's CLIP Text Encode does it."""
    clip, texts = encoded(SAME.get(name, name))
    latents = tiny_latents(model)
    outputs(latents, texts[0])
    return {
        "parameters of CLIP": sum(value.numel() for value in clip.cond_stage_model.state_dict().values()),
        "by caption": change(outputs, outputs.raw.clone(), latents, texts[1]),
        "encoded": kinds(texts[0]),
        "text": kinds(tiny_text(model)),
    }


@cache
def encoded(name):
    """The CLIP of a family, and both captions as conditioning."""
    clip = tiny_clip(name)
    texts = [clip.encode_from_tokens(clip.tokenize(caption), return_dict=True) for caption in CAPTIONS]
    return clip, [text | {"cross_attn": text.pop("cond")} for text in texts]


def kinds(text):
    """Of each entry how many dimensions and channels it has; masks have none."""
    return {
        key: None if value is None else [value.dim(), 0 if "mask" in key else value.shape[-1]]
        for key, value in text.items()
    }


def main():
    folder, detection = Path(sys.argv[2]) / "tiny", comfy.model_detection.model_config_from_unet
    with torch.inference_mode():
        result = {name: checked(name, folder) for name in ALL}
    result["detection as before"] = comfy.model_detection.model_config_from_unet is detection
    sys.stdout.write(json.dumps(result) + "\n")


main()
