"""Counts what a training step of one model has to compute, at batch 1, and tells it in one message.

usage: run_module.py CHECKOUT -- benchmarks.run_floor ORDER        (ORDER: JSON of order.Order)
"""

import sys
from pathlib import Path

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

from .order import RANK, Order
from .turns import Gate


def main() -> None:
    order = Order.from_argument(sys.argv[1])
    gate = Gate.over_stdout()
    start_comfyui(Path(order.program), Path(order.base), "cpu", server=False)
    load_pack()
    gate.tell(_counts(order))


def _counts(order: Order) -> dict:
    """FLOPs by what trains, and how many weights a step reads."""
    import torch
    from comfyui_dadapt_lora.trainer.adapters.choice import text_encoder_layers, unet_layers
    from comfyui_dadapt_lora.trainer.families import FAMILIES
    from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig

    from .floors import adaptable, adapted_flops, merged_flops
    from .models import load

    model, clip, _ = load(order)
    unet = model.model.diffusion_model
    text_encoder = clip.cond_stage_model.clip_l.transformer
    for module in text_encoder.modules():
        if isinstance(module, torch.nn.LayerNorm):
            # ComfyUI's layers add in place to the input, which the norm saves for backward.
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))

    def inputs(text_trains: bool) -> dict:
        side = order.side // 8
        text = torch.empty(1, 77, 768, device="meta", requires_grad=text_trains)
        return {
            "x": torch.empty(1, 4, side, side, device="meta"),
            "timesteps": torch.empty(1, device="meta"),
            "context": text,
        }

    words = {"embeds": torch.empty(1, 77, 768, device="meta"), "num_tokens": [77]}
    attention = list(unet_layers(unet, FAMILIES["SD15"], LoraConfig()))
    of_text = adapted_flops(
        text_encoder, words, list(text_encoder_layers(text_encoder, "clip_l", LoraConfig())), RANK
    )
    return {
        "all": adapted_flops(unet, inputs(False), list(adaptable(unet)), RANK),
        "attention": adapted_flops(unet, inputs(False), attention, RANK),
        "attention and text encoder": adapted_flops(unet, inputs(True), attention, RANK) + of_text,
        "merged": merged_flops(unet, inputs(False), RANK),
        "unet_weights": _weights(unet),
        "text_weights": _weights(text_encoder.text_model.encoder),
    }


def _weights(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


main()
