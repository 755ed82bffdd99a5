"""kohya's sd-scripts in a process of its own, stopped at a gate after every step.

usage: run_module.py CHECKOUT -- benchmarks.run_sd_scripts ORDER        (ORDER: JSON of order.Order)

Runs its train_network.py as it is, in its own Python. A step ends where its progress bar advances.

program: the folder of sd-scripts. settings: precision ("fp32" or "bf16"), tokenizer (a folder for
--tokenizer_cache_dir).
"""

import os
import runpy
import sys
from pathlib import Path

from .order import RANK, Order
from .turns import Gate, told_when_over

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
BAR = "steps"  # what it calls its progress bar


def main() -> None:
    order = Order.from_argument(sys.argv[1])
    gate = Gate.over_stdout()
    os.environ.update(OFFLINE | (ON_CPU if order.device == "cpu" else {}))
    folder = Path(order.program)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = [str(folder / "train_network.py"), *_arguments(order)]
    _stop_at_gate(gate, order.device)
    with told_when_over(gate, dict):
        runpy.run_path(sys.argv[0], run_name="__main__")


def _stop_at_gate(gate: Gate, device: str) -> None:
    import torch
    from tqdm import tqdm

    if device == "cuda":
        gate.synchronize = torch.cuda.synchronize
    update = tqdm.update

    def update_and_wait(bar, n=1):
        shown = update(bar, n)
        if bar.desc == BAR:
            gate.step()
        return shown

    tqdm.update = update_and_wait


def _arguments(order: Order) -> list[str]:
    options = {
        "pretrained_model_name_or_path": order.checkpoint,
        "tokenizer_cache_dir": order.settings["tokenizer"],
        "train_data_dir": order.pictures,
        "caption_extension": ".txt",
        "resolution": f"{order.side},{order.side}",
        "output_dir": Path(order.base, "output"),
        "network_module": "networks.lora",
        "network_dim": RANK,
        "network_alpha": RANK,
        "optimizer_type": "AdamW",
        "learning_rate": 1e-4,
        "lr_scheduler": "constant",
        "train_batch_size": order.batch,
        "max_train_steps": 1000,
        "mixed_precision": "bf16" if order.settings["precision"] == "bf16" else "no",
        "max_data_loader_n_workers": 0,  # its latents are cached: workers would only take cores
        "seed": 1,
    }
    return [f"--{name}={value}" for name, value in options.items()] + ["--cache_latents", "--sdpa"]


main()
