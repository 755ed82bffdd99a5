"""The facts of a run of the toy, for tests."""

from datetime import datetime, timezone

from comfyui_dadapt_lora.trainer.data.dataset import Dataset
from comfyui_dadapt_lora.trainer.data.folder import LeftOut
from comfyui_dadapt_lora.trainer.families import FAMILIES
from comfyui_dadapt_lora.trainer.objective.objective import Objective
from comfyui_dadapt_lora.trainer.record.facts import ModelFacts, RunFacts
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
from comfyui_dadapt_lora.trainer.settings.run import RunConfig

from tests.unit.toy import FP32, TEXT_ENCODER, UNET

PLAIN = Objective()


def facts_of(steps, output, objective=PLAIN):
    """Of a run of `steps` whose output is the "best" or the "last" LoRA."""
    dataset = Dataset("toys", DatasetConfig(), (), (), (), LeftOut((), ()))
    return RunFacts(
        model=ModelFacts(FAMILIES["SD15"], "toy.safetensors", None, (UNET, TEXT_ENCODER)),
        dataset=dataset,
        lora=LoraConfig(dim=4),
        recipe=OptimizerConfig().resolved(),
        objective=objective,
        run=RunConfig(duration=steps, hand_on=output),
        precision=FP32,
        steps=steps,
        steps_per_epoch=1,
        started=datetime.now(timezone.utc),
    )
