"""What a prompt left behind, read back."""

import io
import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from devhost.client import Client
from devhost.execution import Execution


def picture(client: Client, execution: Execution, node_id: str) -> np.ndarray:
    """The one picture of a Save Image node, [height, width, 3] in 0..255."""
    (reference,) = execution.images(node_id)
    return np.asarray(Image.open(io.BytesIO(client.view(reference))).convert("RGB"), dtype=np.int16)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two pictures, in 0..255."""
    return float(np.abs(one - other).mean())


def latent(client: Client, execution: Execution, node_id: str) -> torch.Tensor:
    """What a Save Latent node wrote."""
    (reference,) = execution.outputs[node_id]["latents"]
    return safetensors.torch.load(client.view(reference))["latent_tensor"]


def report(execution: Execution, train: str) -> dict:
    """What a Train node says in the history."""
    (found,) = execution.outputs[train]["dadapt_report"]
    return found


def saved(execution: Execution, save: str) -> dict:
    """What a Save LoRA node says in the history."""
    (found,) = execution.outputs[save]["dadapt_lora"]
    return found


def run_folder(base: Path, execution: Execution, train: str) -> Path:
    return base / "output" / report(execution, train)["run_folder"]


def run_folders(base: Path) -> set[Path]:
    return set((base / "output" / "loras" / "dadapt_runs").glob("*"))


def run_lora(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run folder's LoRA, fp32."""
    return safetensors.torch.load_file(folder / "lora.safetensors")


def metadata(file: Path) -> dict[str, str]:
    with safetensors.safe_open(file, "pt") as opened:
        return opened.metadata()


def run_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def steps(folder: Path) -> list[dict]:
    """The records of a run, one a step."""
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


def layers(tensors: dict[str, torch.Tensor], prefix: str = "") -> set[str]:
    """The names of the adapted layers."""
    return {
        name.removesuffix(".lora_up.weight")
        for name in tensors
        if name.endswith(".lora_up.weight") and name.startswith(prefix)
    }
