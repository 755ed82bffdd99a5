"""The objective decides on what a step trains, and on nothing that is compared between runs."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.run.events import HeldoutLoss

from tests.unit.run.resumable import begun
from tests.unit.toy import ToyNetwork, of_kind, weights

CHANGED = {
    "noise levels": {"noise_levels": "logit-normal"},
    "shift": {"shift": 3.0},
    "range": {"most_noise": 0.5},
    "huber": {"loss": "huber"},
    "smooth l1": {"loss": "smooth l1"},
    "min-SNR": {"weighting": "min-SNR", "min_snr_gamma": 1.0},
    "debiased": {"weighting": "debiased"},
    "offset": {"noise_offset": 0.1},
    "multires": {"multires_iterations": 2},
    "input perturbation": {"input_perturbation": 0.1},
}


def trained(**chosen):
    events = []
    one, adapters = begun({"objective": chosen}, events.append)
    with attached(adapters):
        one.run()
    return weights(adapters), of_kind(HeldoutLoss, events)


@pytest.fixture(scope="module")
def plain():
    return trained()


@pytest.mark.parametrize("name", CHANGED)
def test_each_setting_changes_the_lora_and_not_how_it_is_measured(plain, name):
    """The untouched model measures the same; another LoRA does not."""
    changed, heldout = trained(**CHANGED[name])
    assert not all(torch.equal(a, b) for a, b in zip(changed, plain[0], strict=True))
    assert heldout[0] == plain[1][0]
    assert heldout[-1] != plain[1][-1]


@pytest.mark.parametrize("name", CHANGED)
def test_a_run_does_not_go_on_with_another_objective(name):
    one, adapters = begun({})
    with attached(adapters):
        one.step()
    other, _ = begun({"objective": CHANGED[name]})
    with pytest.raises(SettingError, match="other settings: objective"):
        other.load(one.state())


def test_no_noise_level_outside_of_the_range_is_trained_on(monkeypatch):
    seen = []

    def predict(self, noised, levels, conditioning):
        if torch.is_grad_enabled():
            seen.extend(levels.sigmas.tolist())
        return of_toy(self, noised, levels, conditioning)

    of_toy = ToyNetwork.predict
    monkeypatch.setattr(ToyNetwork, "predict", predict)
    trained(least_noise=0.25, most_noise=0.5)
    ends = ToyNetwork().levels(torch.tensor([0.25, 0.5])).sigmas.tolist()
    assert len(seen) == 80
    assert ends[0] <= min(seen) < max(seen) <= ends[1]
