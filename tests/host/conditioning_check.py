"""How captions reach networks while training, in one batch and one by one. Run by test_conditioning.py.

usage: python conditioning_check.py COMFYUI BASE        (in ComfyUI's Python; prints one JSON object)

Models are the tiny ones of all families, with random weights.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

start_comfyui(*map(Path, sys.argv[1:3]), pytorch_attention=False)
load_pack()

import torch  # noqa: E402
from comfy.conds import CONDCrossAttn  # noqa: E402
from comfyui_dadapt_lora.comfy_host.conditioning import Conditioner, groups  # noqa: E402
from comfyui_dadapt_lora.comfy_host.inference_tensors import trainable  # noqa: E402
from comfyui_dadapt_lora.comfy_host.loading import load_together  # noqa: E402
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model  # noqa: E402
from comfyui_dadapt_lora.comfy_host.network import HostNetwork  # noqa: E402
from comfyui_dadapt_lora.comfy_host.prompts import as_plain_prompt, weighs_words  # noqa: E402
from comfyui_dadapt_lora.comfy_host.text_encoder import HostTextEncoder, encoder_names  # noqa: E402
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture  # noqa: E402
from comfyui_dadapt_lora.trainer.errors import ModelError  # noqa: E402
from tiny_families.models import load_tiny, tiny_latents, tiny_text  # noqa: E402
from tiny_families.table import EDITORS  # noqa: E402
from tiny_families.text_encoders import ENCODERS, tiny_clip  # noqa: E402

WORDS = 75  # that fit in a chunk of CLIP's 77 tokens
DIFFERENT = ("a red apple", "the sea at night (calm), " * 12, "a boat")  # of 1, 2 and 1 chunks
CAPTIONS = (*DIFFERENT, DIFFERENT[0])


def caption(chunks):
    return " ".join(["apple"] * (WORDS * (chunks - 1) + 5) + ["boat"] * chunks)


@contextmanager
def ready(name, trained):
    """A network of the family and its text encoder, as they are while training, in fp64."""
    model, clip = load_tiny(name, torch.float64), tiny_clip(name, torch.float64)
    network = HostNetwork(model, HostTextEncoder(clip, trained), family_of_model(model))
    load_together([model, clip.patcher], 0)
    with trainable([model.model, clip.cond_stage_model]), network.ready(), torch.no_grad():
        yield network


@contextmanager
def text_given_to(module):
    """The shapes of the text, as tokens, that a UNet or a text encoder is called with, in order."""
    shapes = []

    def note(_, inputs, named):
        shapes.append(list(named["context" if "context" in named else "embeds"].shape))

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    yield shapes
    handle.remove()


def batch_of_chunks(network, *chunks):
    """Captions of so many chunks in one batch: what the UNet read, and how far that is from one by one."""
    latents = tiny_latents(network.patcher, batch=len(chunks))
    pictures = [LatentPicture(one, caption(n)) for one, n in zip(latents, chunks, strict=True)]
    u = torch.linspace(0.2, 0.8, len(chunks), dtype=torch.float64)
    with text_given_to(network.unet) as shapes:
        together = network.predict(latents, network.levels(u), network.encode(pictures))
    apart = []
    for place, picture in enumerate(pictures):
        one = slice(place, place + 1)
        apart.append(network.predict(latents[one], network.levels(u[one]), network.encode([picture])))
    return {"read": [shape[:2] for shape in shapes], "apart": distance(together, torch.cat(apart))}


def distance(ours, reference):
    return ((ours - reference).norm() / reference.norm()).item()


def batches_of_sd15():
    found = {}
    with ready("SD15", ["clip_l"]) as network:
        for chunks in [(3, 4, 5, 7), (1, 2, 4), (2, 1, 3, 1), (1, 7)]:
            found[" ".join(map(str, chunks))] = batch_of_chunks(network, *chunks)
    return found


def grouped(lengths, may_repeat):
    conds = [{"c_crossattn": CONDCrossAttn(torch.zeros(1, length, 4))} for length in lengths]
    return groups(conds, may_repeat)


def pooled_of_sdxl():
    """How far what SDXL gets beside cross-attention (pooled output and sizes) is from one by one."""
    with ready("SDXL", ["clip_l", "clip_g"]) as network:
        latents = tiny_latents(network.patcher, batch=3)
        pictures = [LatentPicture(*pair) for pair in zip(latents, DIFFERENT, strict=True)]
        together = [conds["y"].cond for conds in network.encode(pictures)]
        apart = [network.encode([picture])[0]["y"].cond for picture in pictures]
    own = [distance(*pair) for pair in zip(together, apart, strict=True)]
    others = [distance(together[place], apart[place - 1]) for place in range(3)]
    return {"own": max(own), "others": min(others)}


def texts_of_comfyui(clip):
    """By its own code for inference, one caption at a time."""
    has_weights = weighs_words(clip)
    for one in CAPTIONS:
        tokens = clip.tokenize(as_plain_prompt(one, has_weights))
        text = clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
        yield text | {"cross_attn": text.pop("cond")}


def batch_against_comfyui(name):
    """How far any tensor of a batch is from what ComfyUI makes of the caption alone, all encoders trained."""
    clip = tiny_clip(name)
    load_together([clip.patcher], 0)
    with torch.inference_mode():
        theirs = list(texts_of_comfyui(clip))
    encoder = HostTextEncoder(clip, encoder_names(clip))
    with trainable([clip.cond_stage_model]), encoder.ready(), torch.no_grad():
        ours = encoder.encode(CAPTIONS)
    worst = 0.0
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.keys() == reference.keys(), (mine.keys(), reference.keys())
        for key, value in reference.items():
            if torch.is_tensor(value):
                assert mine[key].shape == value.shape, (key, mine[key].shape, value.shape)
                worst = max(worst, distance(mine[key].float(), value.float()))
    return worst


def frozen_beside_trained():
    """Flux with CLIP-L trained and T5 not, over three steps of the same two captions."""
    clip = tiny_clip("Flux")
    encoder = HostTextEncoder(clip, ["clip_l"])
    load_together([clip.patcher], 0)
    with trainable([clip.cond_stage_model]), encoder.ready():
        for part in ("clip_l", "t5xxl"):
            encoder.encoder(part).requires_grad_(True)
        modules = (encoder.encoder(part).transformer for part in ("clip_l", "t5xxl"))
        with text_given_to(next(modules)) as of_clip, text_given_to(next(modules)) as of_t5:
            steps = [encoder.encode(["a red apple", "a boat"]) for _ in range(3)]
    first, last = steps[0][1], steps[-1][1]
    return {
        "calls of clip_l": len(of_clip),
        "calls of t5xxl": len(of_t5),
        "t5xxl is the same": torch.equal(first["cross_attn"], last["cross_attn"]),
        "gradient of clip_l": last["pooled_output"].requires_grad,
        "gradient of t5xxl": last["cross_attn"].requires_grad,
    }


def refusal(name):
    """What an editing, inpainting or animating model is refused with; empty where it trains."""
    model = load_tiny(name)
    picture = LatentPicture(tiny_latents(model)[0], "")
    try:
        Conditioner(model, family_of_model(model)).of(picture, tiny_text(model))
    except ModelError as error:
        return str(error)
    return ""


def main():
    result = {
        "chunks": batches_of_sd15(),
        "groups": grouped([4, 2, 4, 3], may_repeat=True),
        "groups without repeating": grouped([4, 2, 4, 3], may_repeat=False),
        "pooled": pooled_of_sdxl(),
        "against ComfyUI": {name: batch_against_comfyui(name) for name in ENCODERS},
        "frozen": frozen_beside_trained(),
        "refused": {name: refusal(name) for name in EDITORS},
    }
    sys.stdout.write(json.dumps(result) + "\n")


main()
