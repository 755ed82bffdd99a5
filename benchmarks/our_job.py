"""The job that our trainer gets for an order, as the Train node would make it from what is linked to it."""

from comfyui_dadapt_lora.comfy_host.job import Job
from comfyui_dadapt_lora.trainer.data.dataset import read_dataset
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
from comfyui_dadapt_lora.trainer.settings.run import RunConfig

from .order import RANK, Order


def job_of(order: Order) -> Job:
    settings = order.settings
    return Job(
        dataset=read_dataset(order.pictures, DatasetConfig(resolution=order.side)),
        lora=LoraConfig(dim=RANK, **settings.get("lora", {})),
        recipe=OptimizerConfig(**settings.get("recipe", {})),
        run=RunConfig(batch_size=order.batch, **settings.get("run", {})),
        base_model=order.model,
    )
