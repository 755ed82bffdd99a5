"""Writes a checkpoint of SD 1.5's size: 2 GB of random weights in fp16.

usage: run_module.py CHECKOUT -- benchmarks.run_checkpoint ORDER        (ORDER: JSON of order.Order)

It is the same on every machine with this version of torch.

model: "sd15" has SD 1.5's UNet, and from the demo its text encoder, which is as large as SD 1.5's, and its
VAE, which is smaller and encodes faster. "sd15_whole" has a VAE of SD 1.5's shape, for a trainer that loads
no other.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from devhost.inprocess import start_comfyui

from .order import SD15, SD15_WHOLE, Order
from .turns import Gate

UNET = "model.diffusion_model."
VAE = "first_stage_model."
UNET_SHAPE = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2] * 4,
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": [1] * 6 + [0] * 2,
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
    "legacy": False,
}
VAE_SHAPE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
# Random values that all weights are taken from: drawing each of the 860 million weights would take longer
# than what is measured.
POOL = 2**22


def main() -> None:
    order = Order.from_argument(sys.argv[1])
    gate = Gate.over_stdout()
    if order.model not in (SD15, SD15_WHOLE):
        raise ValueError(f"Expected {SD15} or {SD15_WHOLE}, got {order.model}.")
    start_comfyui(Path(order.program), Path(order.base), "cpu", server=False)
    _write(order)
    gate.tell({"written": str(order.checkpoint)})


def _write(order: Order) -> None:
    import comfy.ops
    import comfy.utils
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from safetensors.torch import save_file

    with torch.device("meta"):
        unet = UNetModel(
            **UNET_SHAPE, dtype=torch.float16, operations=comfy.ops.disable_weight_init
        ).state_dict()
        vae = AutoencoderKL(ddconfig=VAE_SHAPE, embed_dim=4).state_dict()
    made_anew = (UNET, VAE) if order.model == SD15_WHOLE else (UNET,)
    demo = comfy.utils.load_torch_file(str(order.demo_checkpoint))
    weights = {name: weight for name, weight in demo.items() if not name.startswith(made_anew)}
    weights |= _random(UNET, unet) | (_random(VAE, vae) if VAE in made_anew else {})
    save_file(weights, order.checkpoint)


def _random(prefix: str, shapes: Mapping) -> dict:
    """Random weights of these shapes: normal with variance 1 / inputs, norms of one, biases of zero."""
    import torch

    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0))

    def weight(name: str, shape: torch.Size, place: int) -> torch.Tensor:
        if len(shape) == 1:
            return (torch.ones if name.endswith("weight") else torch.zeros)(shape, dtype=torch.float16)
        turned = pool.roll(place * 99_991)  # another part of the pool for each layer
        values = turned.repeat(-(-shape.numel() // POOL))[: shape.numel()].view(shape)
        return (values * values[0].numel() ** -0.5).half()

    return {
        prefix + name: weight(name, like.shape, place) for place, (name, like) in enumerate(shapes.items())
    }


main()
