"""ComfyUI's own Train LoRA node in a process of its own, stopped at a gate after every step.

usage: run_module.py CHECKOUT -- benchmarks.run_host_node ORDER        (ORDER: JSON of order.Order)

settings: inputs of the node by name; all others but the rank are left at its own defaults. Encoding pictures
and captions, which other nodes do in a graph, is done here with ComfyUI's own functions. Our pack is not
used.
"""

import sys
from pathlib import Path

from devhost.inprocess import start_comfyui

from .order import RANK, Order
from .turns import Gate, told_when_over


def main() -> None:
    order = Order.from_argument(sys.argv[1])
    gate = Gate.over_stdout()
    start_comfyui(Path(order.program), Path(order.base), order.device, server=False)
    _train(order, gate)


def _train(order: Order, gate: Gate) -> None:
    import comfy_extras.nodes_train as node
    import torch

    from .models import load
    from .peak import PeakMemory

    class GatedBar(node.ProgressBar):
        """The node's progress bar, which it moves once per step.

        ComfyUI's hook for progress bars would not do: newer versions call it only a few times per second.
        """

        def update(self, value) -> None:
            super().update(value)
            gate.step()

    if order.device == "cuda":
        gate.synchronize = torch.cuda.synchronize
    model, clip, vae = load(order)
    peak = PeakMemory(order.device) if order.watch == "memory" else None
    # in inference mode, as ComfyUI's executor runs nodes
    with told_when_over(gate, lambda: {"bytes": peak.above()} if peak else {}), torch.inference_mode():
        latents, conditioning = _encoded(order, clip, vae)
        node.ProgressBar = GatedBar
        inputs = _inputs(node.TrainLoraNode, order)
        node.TrainLoraNode.execute(model=[model], latents=latents, positive=conditioning, **inputs)


def _encoded(order: Order, clip, vae) -> tuple[list, list]:
    """A LATENT and a CONDITIONING for each picture."""
    import numpy as np
    import torch
    from PIL import Image

    latents = []
    conditioning = []
    for file in sorted(order.pictures.glob("*/*.png")):
        picture = Image.open(file).convert("RGB").resize((order.side, order.side))
        pixels = np.asarray(picture, dtype=np.float32) / 255
        latents.append({"samples": vae.encode(torch.from_numpy(pixels)[None])})
        caption = file.with_suffix(".txt").read_text(encoding="utf-8").strip()
        conditioning.append(clip.encode_from_tokens_scheduled(clip.tokenize(caption)))
    return latents, conditioning


def _inputs(node, order: Order) -> dict[str, list]:
    """All inputs but the three that come from other nodes, each in a list, as the node takes them."""
    values = {
        one.id: one.default
        for one in node.define_schema().inputs
        if getattr(one, "default", None) is not None
    }
    values |= {
        "existing_lora": "[None]",
        "rank": RANK,
        "batch_size": order.batch,
        "steps": 1000,
        **order.settings,
    }
    return {name: [value] for name, value in values.items()}


main()
