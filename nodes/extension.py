"""The list of nodes that ComfyUI gets."""

from comfy_api.latest import ComfyExtension, io

from .load_dataset import LoadDataset
from .lora_config import LoRAConfigNode
from .optimizer import OptimizerNode
from .save_lora import SaveLoRA
from .train import Train
from .training_curves import TrainingCurves
from .training_objective import TrainingObjective


class DAdaptLoRAExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            *(LoadDataset, LoRAConfigNode, OptimizerNode, TrainingObjective),
            *(Train, SaveLoRA, TrainingCurves),
        ]
