"""Our trainer in a process of its own, stopped at a gate after every step.

usage: run_module.py CHECKOUT -- benchmarks.run_ours ORDER        (ORDER: JSON of order.Order)

It calls `train_lora` as the Train node does.

settings: {"lora": ..., "recipe": ..., "run": ...}, the fields of LoraConfig, OptimizerConfig and RunConfig.
"""

import sys
from pathlib import Path

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

from .order import Order
from .turns import Gate, told_when_over


def main() -> None:
    order = Order.from_argument(sys.argv[1])
    gate = Gate.over_stdout()
    start_comfyui(Path(order.program), Path(order.base), order.device)
    load_pack()
    _train(order, gate)


def _train(order: Order, gate: Gate) -> None:
    import torch
    from comfyui_dadapt_lora.comfy_host.progress import Progress
    from comfyui_dadapt_lora.comfy_host.train_lora import train_lora
    from comfyui_dadapt_lora.trainer.run.events import StepRecord

    from .models import load
    from .our_job import job_of
    from .parts import Parts
    from .peak import PeakMemory

    if order.device == "cuda":
        gate.synchronize = torch.cuda.synchronize
    parts = Parts(gate.synchronize) if order.watch == "parts" else None

    class AtTheGate:
        def hear(self, event) -> None:
            if isinstance(event, StepRecord):
                gate.step(loss=event.loss, **({"parts": parts.taken()} if parts else {}))

    job = job_of(order)
    model, clip, vae = load(order)
    if parts:
        parts.watch()
    peak = PeakMemory(order.device) if order.watch == "memory" else None
    # in inference mode, as ComfyUI's executor runs nodes
    with told_when_over(gate, lambda: {"bytes": peak.above()} if peak else {}), torch.inference_mode():
        train_lora(model, clip, vae, job, Progress(None), [AtTheGate()])


main()
