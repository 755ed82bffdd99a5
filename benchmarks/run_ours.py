"""Our trainer in a process of its own: `train_lora` as the Train node calls it, stopped at a gate after every
step.

usage: run_module.py CHECKOUT -- benchmarks.run_ours ORDER        (ORDER: JSON of order.Order)

settings: {"lora": ..., "recipe": ..., "run": ...}, the fields of LoraConfig, OptimizerConfig and RunConfig.
"""

import sys
from pathlib import Path

from devhost.inprocess import start_comfyui
from devhost.pack import load_pack

from .order import RANK, Order
from .turns import Gate, told_when_over


def main() -> None:
    order = Order.from_argument(sys.argv[1])
    gate = Gate.over_stdout()
    start_comfyui(Path(order.program), Path(order.base), order.device)
    load_pack()
    _train(order, gate)


def _train(order: Order, gate: Gate) -> None:
    import torch
    from comfyui_dadapt_lora.comfy_host.job import Job
    from comfyui_dadapt_lora.comfy_host.progress import Progress
    from comfyui_dadapt_lora.comfy_host.train_lora import train_lora
    from comfyui_dadapt_lora.trainer.data.dataset import read_dataset
    from comfyui_dadapt_lora.trainer.run.events import StepRecord
    from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig
    from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig
    from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
    from comfyui_dadapt_lora.trainer.settings.run import RunConfig

    from .models import load
    from .parts import Parts
    from .peak import PeakMemory

    if order.device == "cuda":
        gate.synchronize = torch.cuda.synchronize
    parts = Parts(gate.synchronize) if order.watch == "parts" else None

    class AtTheGate:
        def hear(self, event) -> None:
            if isinstance(event, StepRecord):
                gate.step(loss=event.loss, **({"parts": parts.taken()} if parts else {}))

    settings = order.settings
    job = Job(
        dataset=read_dataset(order.pictures, DatasetConfig(resolution=order.side)),
        lora=LoraConfig(dim=RANK, **settings.get("lora", {})),
        recipe=OptimizerConfig(**settings.get("recipe", {})),
        run=RunConfig(batch_size=order.batch, **settings.get("run", {})),
        base_model=order.model,
    )
    model, clip, vae = load(order)
    if parts:
        parts.watch()
    peak = PeakMemory(order.device) if order.watch == "memory" else None
    with (
        told_when_over(gate, lambda: {"bytes": peak.above()} if peak else {}),
        torch.inference_mode(),
    ):  # as the host's executor does
        train_lora(model, clip, vae, job, Progress(None), [AtTheGate()])


main()
