"""When checkpointing is worth it."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.families import FAMILIES
from comfyui_dadapt_lora.trainer.precision import Precision
from comfyui_dadapt_lora.trainer.run.memory import StepMemory
from comfyui_dadapt_lora.trainer.settings.run import RunConfig

SD15 = FAMILIES["SD15"]


def memory(precision=torch.bfloat16, values=0, **run) -> StepMemory:
    pictures = [LatentPicture(torch.zeros(4, 32, 32), ""), LatentPicture(torch.zeros(4, 64, 64), "")]
    return StepMemory.of(RunConfig(**run), Precision(precision, torch.device("cpu")), pictures, SD15, values)


def test_a_step_takes_the_largest_picture_times_the_batch_and_what_the_lora_takes():
    one = memory().bytes(checkpointing=False)
    assert one == SD15.step.activations * 64 * 64
    assert memory(batch_size=4).bytes(checkpointing=False) == 4 * one
    assert memory(torch.float32).bytes(checkpointing=False) == 2 * one
    assert memory(values=1000).bytes(checkpointing=False) - one == 24_000
    assert memory().bytes(checkpointing=True) < one / 2


@pytest.mark.parametrize(
    "choice, expected", [("on", (True, True)), ("off", (False, False)), ("auto", (True, False))]
)
def test_auto_checkpoints_where_a_step_would_not_fit(choice, expected):
    needed = memory().bytes(checkpointing=False)
    too_small, enough = needed, 2 * needed
    assert (
        memory().wants_checkpointing(choice, too_small),
        memory().wants_checkpointing(choice, enough),
    ) == expected
