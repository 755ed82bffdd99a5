"""Event files, read back with TensorBoard's own reader."""

import pytest
from comfyui_dadapt_lora.trainer.parts import UNET
from comfyui_dadapt_lora.trainer.record import tensorboard
from comfyui_dadapt_lora.trainer.record.tensorboard import EventFiles
from comfyui_dadapt_lora.trainer.run.events import HeldoutLoss, StepRecord
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.unit.toy import TEXT_ENCODER


def record(step, loss=0.1, text_encoder=None):
    return StepRecord(
        step=step,
        epoch=1,
        loss=loss,
        loss_average=0.2,
        d=1e-4,
        dlr={UNET: 1e-4, TEXT_ENCODER: text_encoder},
        gradient_norm=1.0,
        seconds=1.0,
        peak_memory_mb=None,
    )


def test_scalars_have_the_tags_that_people_know(tmp_path):
    files = EventFiles(tmp_path / "events")
    for step in (1, 2, 3):
        files.hear(record(step, loss=0.1 * step, text_encoder=5e-5))
    files.hear(HeldoutLoss(3, 0.07))
    files.close()
    read = EventAccumulator(str(tmp_path / "events")).Reload()
    known = {"loss/current", "loss/average", "lr/d*lr/unet", "lr/d*lr/textencoder/clip_l"}
    assert set(read.Tags()["scalars"]) == known | {"loss/heldout", "d", "gradient_norm"}
    assert [(event.step, event.value) for event in read.Scalars("loss/current")] == [
        (step, pytest.approx(0.1 * step)) for step in (1, 2, 3)
    ]
    assert read.Scalars("lr/d*lr/textencoder/clip_l")[0].value == pytest.approx(5e-5)


def test_what_is_not_there_is_left_out(tmp_path):
    files = EventFiles(tmp_path / "events")
    files.hear(record(1, loss=None))
    files.close()
    read = EventAccumulator(str(tmp_path / "events")).Reload()
    assert {"loss/current", "lr/d*lr/textencoder/clip_l"}.isdisjoint(read.Tags()["scalars"])


def test_nothing_is_written_before_the_first_record_or_without_tensorboard(tmp_path, monkeypatch):
    EventFiles(tmp_path / "unused").close()
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)  # stands for a machine without it
    files = EventFiles(tmp_path / "missing")
    files.hear(record(1))
    files.close()
    assert list(tmp_path.iterdir()) == []
