"""Training through the host on a device that is not the CPU: everything is where it has to be, and the LoRA
is the one of the CPU.

The device is pretended, because machines without a GPU have to run this (pretended_device.py says what that
leaves out). It refuses tensors of two devices in one operation, so that each run that ends shows that none
met.
"""

import pytest

pytestmark = pytest.mark.made_in_python

IN_FP32 = ("fp32", "text encoder there too", "checkpointed", "UNet in part", "text encoder in part")


@pytest.fixture(scope="module")
def runs(found_by):
    return found_by("on_pretended_device.py")


@pytest.mark.parametrize("run", IN_FP32)
def test_the_lora_is_the_one_of_the_cpu(runs, run):
    """Also with the text encoder on the device or not, with checkpointing, and where the model fits in
    part.
    """
    assert runs[run]["on"] == "pretended:0" and runs["cpu"]["on"] == "cpu"
    assert (
        runs[run]["difference"] < 5e-3
    )  # of a tensor's largest value; the optimizer is torch's fused one on the CPU alone


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_of_the_device_learns_alike(runs, precision):
    losses = runs[precision]["losses"]
    assert losses == pytest.approx(runs["cpu, tiny"]["losses"], rel=0.03)
    assert losses != pytest.approx(runs["tiny"]["losses"], rel=1e-5)


def test_a_step_waits_for_the_device_once(runs):
    """Ten steps of a run are measured, which waits more; of these twelve, the 7th is not, and the 6th is."""
    waits = runs["long"]["waits"]
    assert waits[6] == 1 < waits[5]


def test_what_does_not_train_leaves_the_device_and_what_trains_is_there(runs):
    assert runs["text encoder there too"]["devices"] == {
        "unet": ["pretended"],
        "text encoder": ["pretended"],
        "vae": ["cpu"],
    }
    assert runs["one part"]["devices"] == {"unet": ["pretended"], "text encoder": ["cpu"], "vae": ["cpu"]}


def test_where_the_text_encoder_stays_in_host_memory_it_trains_there(runs):
    assert runs["fp32"]["devices"]["text encoder"] == ["cpu"]


@pytest.mark.parametrize("part", ["UNet", "text encoder"])
def test_what_fits_in_part_trains_and_the_report_says_so(runs, part):
    run = runs[f"{part} in part"]
    assert run["in part"] and not runs["text encoder there too"]["in part"]
    assert run["devices"][part.lower()] == ["cpu", "pretended"]


def test_the_model_is_given_back_where_it_was_and_as_it_was(runs):
    for run in IN_FP32:
        before, after, same = runs[run]["given back"]
        assert before == after and same, run
