"""What the report and the file say of the objective of a run."""

import json

import pytest
from comfyui_dadapt_lora.trainer.distribution import Distribution
from comfyui_dadapt_lora.trainer.objective.objective import Objective
from comfyui_dadapt_lora.trainer.objective.prediction import EPS, FLOW, Prediction, V
from comfyui_dadapt_lora.trainer.record.facts import Setup, what_ran
from comfyui_dadapt_lora.trainer.record.metadata import training_metadata
from comfyui_dadapt_lora.trainer.run.events import StepRecord
from comfyui_dadapt_lora.trainer.settings.objective import ObjectiveConfig

from tests.unit.record.toy_facts import facts_of

LAST = StepRecord(4, 1, 0.1, 0.1, 1e-4, {"unet": 1e-4}, 1.0, 1.0, None)


def objective(predicts=EPS, zero_terminal=False, **settings):
    custom = Distribution(custom="somebody")
    return Objective.of(ObjectiveConfig(**settings), custom, Prediction(predicts, zero_terminal))


def told(of):
    """What the file says: only what has to do with the objective."""
    metadata = training_metadata(facts_of(4, "last", of), LAST)
    names = ("loss", "huber", "snr", "noise", "debiased", "prediction", "objective")
    return {key: value for key, value in metadata.items() if any(name in key for name in names)}


def test_a_run_as_usual_says_so_under_the_names_of_sd_scripts():
    metadata = told(objective())
    assert json.loads(metadata.pop("ss_dadapt_objective"))["drawn"]["distribution"]["kind"] == "uniform"
    assert metadata == {
        "modelspec.prediction_type": "epsilon",
        "ss_loss_type": "l2",
        "ss_debiased_estimation": "False",
        "ss_zero_terminal_snr": "False",
    }


def test_everything_that_was_changed_is_in_the_file():
    metadata = told(
        objective(
            V,
            zero_terminal=True,
            loss="smooth l1",
            huber_c=0.2,
            weighting="min-SNR",
            noise_offset=0.05,
            multires_iterations=6,
            input_perturbation=0.1,
        )
    )
    del metadata["ss_dadapt_objective"]
    assert metadata == {
        "modelspec.prediction_type": "v",
        "ss_loss_type": "smooth_l1",
        "ss_huber_schedule": "constant",
        "ss_huber_c": "0.2",
        "ss_huber_scale": "1.0",
        "ss_min_snr_gamma": "5.0",
        "ss_debiased_estimation": "False",
        "ss_noise_offset": "0.05",
        "ss_multires_noise_iterations": "6",
        "ss_multires_noise_discount": "0.3",
        "ss_ip_noise_gamma": "0.1",
        "ss_zero_terminal_snr": "True",
    }


def test_debiased_estimation_is_in_the_file():
    assert told(objective(weighting="debiased"))["ss_debiased_estimation"] == "True"


def test_a_flow_has_no_prediction_type_and_no_zero_terminal_snr_of_its_own():
    metadata = told(objective(FLOW, zero_terminal=True))
    assert "modelspec.prediction_type" not in metadata
    assert metadata["ss_zero_terminal_snr"] == "False"


@pytest.mark.parametrize("settings, whose", [({}, "the custom of somebody"), ({"shift": 2.0}, "chosen at")])
def test_the_report_says_which_noise_levels_and_whose_custom_they_are(settings, whose):
    setup = Setup("float32", "cpu", {"unet": 1}, 100, False, True)
    lines = list(what_ran(facts_of(4, "last", objective(**settings)), setup))
    assert "the model predicts noise (eps)" in lines
    (line,) = [line for line in lines if line.startswith("noise levels: ")]
    assert whose in line
