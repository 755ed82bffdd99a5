"""What memory a step takes, and when checkpointing is worth it."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.families import FAMILIES
from comfyui_dadapt_lora.trainer.precision import Precision
from comfyui_dadapt_lora.trainer.run.activations import Activations, PerPicture
from comfyui_dadapt_lora.trainer.run.memory import StepMemory
from comfyui_dadapt_lora.trainer.run.need import GB, Need
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


def test_of_a_batch_only_what_is_computed_at_once_takes_memory():
    one = memory().bytes(checkpointing=False)
    assert memory(batch_size=4, pictures_at_once=2).bytes(checkpointing=False) == 2 * one
    assert memory(batch_size=4, pictures_at_once=9).bytes(checkpointing=False) == 4 * one


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


# what a picture takes, by its size --------------------------------------------------------------------------


def test_two_sizes_tell_a_caption_from_pixels():
    """500 bytes of the caption and 3 of a pixel."""
    line = PerPicture.through([(100, 800), (400, 1700)])
    assert line == PerPicture(per_pixel=3.0, fixed=500.0)
    assert line.bytes(10_000) == 30_500


def test_of_one_size_everything_is_counted_as_pixels():
    assert PerPicture.through([(100, 800)]) == PerPicture(per_pixel=8.0, fixed=0.0)


@pytest.mark.parametrize("larger, expected", [(700, PerPicture(0.0, 700.0)), (9000, PerPicture(22.5, 0.0))])
def test_a_line_never_falls_nor_starts_below_nothing(larger, expected):
    """Attention may save less for large pictures than for small ones, or grow faster."""
    assert PerPicture.through([(100, 800), (400, larger)]) == expected


# what a run needs, and what to change -----------------------------------------------------------------------


def need(free, checkpointing=False, pictures=4, text_encoders=0.0, **changed):
    """5 GB of model, 1 of LoRA and optimizer, and 2 of each picture, 0.5 with checkpointing, at 1024."""
    pixels = 128 * 128
    activations = Activations(PerPicture(2 * GB / pixels), PerPicture(0.5 * GB / pixels))
    settings = {
        "model": 5 * GB,
        "memory": StepMemory(activations, pixels, pictures, lora=GB),
        "checkpointing": checkpointing,
        "free": round(free * GB),
        "resolution": 1024,
        "dim": 64,
        "text_encoders": round(text_encoders * GB),
        "lora_of_text": GB // 4 if text_encoders else 0,
    }
    return Need(**(settings | changed))


def test_a_need_says_what_it_is_made_of():
    assert str(need(16)) == "needs about 14.0 GB: model 5.0, LoRA and optimizer 1.0, one step 8.0; 16.0 free"
    assert need(16).fits and need(16).advice() is None
    assert not need(13.9).fits


@pytest.mark.parametrize(
    "free, expected",
    [
        (13, "Set checkpointing at Train to 'on' (8.0 GB)"),
        (7.6, "Set checkpointing at Train to 'on' (8.0 GB), then pictures_at_once at Train to 3 (7.5 GB)"),
        (7.1, "pictures_at_once at Train to 2 (7.0 GB)"),
        (
            6.4,
            "pictures_at_once at Train to 1 (6.5 GB), then resolution at Load Dataset to 896 (6.4 GB)",
        ),
        (
            5.8,
            "resolution at Load Dataset to 512 (6.1 GB), then dim at LoRA Config to 32 (5.6 GB)",
        ),
        (5.0, "dim at LoRA Config to 4 (5.2 GB); that is still too much: use a smaller model"),
    ],
)
def test_the_cheapest_change_comes_first_and_each_with_its_numbers(free, expected):
    said = need(free).advice()
    assert said.startswith("training needs about 14.0 GB: model 5.0,") and "so that it does not fit" in said
    assert expected in said


def test_what_is_set_already_is_not_advised():
    assert "Set resolution at Load Dataset to 832" in need(6.35, checkpointing=True, pictures=1).advice()


def test_the_text_encoder_is_the_last_to_go():
    said = need(4.3, checkpointing=True, pictures=1, text_encoders=1.0).advice()
    assert said.endswith(
        "dim at LoRA Config to 4 (5.2 GB), then train_text_encoder at LoRA Config off (4.2 GB)"
    )
