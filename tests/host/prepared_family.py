"""A tiny family as `comfy_host.prepare` leaves it, and the job that it is for.

Imported after ComfyUI has been started.
"""

import torch
from comfyui_dadapt_lora.comfy_host.job import Job
from comfyui_dadapt_lora.comfy_host.model_kind import family_of_model
from comfyui_dadapt_lora.comfy_host.prepared import Prepared
from comfyui_dadapt_lora.comfy_host.subject import Subject
from comfyui_dadapt_lora.trainer.adapters.lora import count_values
from comfyui_dadapt_lora.trainer.data.dataset import Dataset
from comfyui_dadapt_lora.trainer.data.folder import LeftOut
from comfyui_dadapt_lora.trainer.precision import Precision
from comfyui_dadapt_lora.trainer.run.memory import StepMemory
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
from comfyui_dadapt_lora.trainer.settings.run import RunConfig
from hooked_family import CPU, Family

FP32 = Precision(torch.float32, CPU)


def job_of(steps, **run):
    return Job(
        dataset=Dataset("tiny", DatasetConfig(), (), (), (), LeftOut((), ())),
        lora=LoraConfig(dim=2),
        recipe=OptimizerConfig(d0=1e-3, warmup_percent=0.0, growth_rate=10.0),
        run=RunConfig(duration=steps, **run),
        base_model="tiny",
    )


def prepared_of(name, job, room):
    """With a LoRA of zeros for every usual layer of the diffusion model and of all text encoders."""
    tiny = Family(name)
    for adapter in tiny.adapters:
        adapter.up.data.zero_()
    family, encoders = family_of_model(tiny.model), tiny.network.text_encoder.trained
    subject = Subject(tiny.model, tiny.clip, None, family, FP32, encoders, tiny.layers)
    memory = StepMemory.of(job.run, FP32, tiny.pictures, family, count_values(tiny.adapters))
    return Prepared(subject, tiny.network, tiny.adapters, tiny.pictures, (), memory, room)
