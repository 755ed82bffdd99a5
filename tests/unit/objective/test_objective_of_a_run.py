"""The objective of a run: resolved from settings and a family's custom, and minimized."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.distribution import LOGIT_NORMAL, Distribution, TokenShift
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.objective.loss import losses
from comfyui_dadapt_lora.trainer.objective.objective import Objective
from comfyui_dadapt_lora.trainer.objective.prediction import EPS, FLOW, Prediction, V
from comfyui_dadapt_lora.trainer.settings.objective import DEBIASED, MIN_SNR, ObjectiveConfig

from tests.unit.toy import CHANNELS, ToyNetwork, pictures

QWEN = Distribution(LOGIT_NORMAL, shift=2.2, custom="musubi-tuner")
FLUX = Distribution(LOGIT_NORMAL, by_tokens=TokenShift(), custom="kohya's sd-scripts")


def objective(custom=QWEN, predicts=EPS, **settings):
    return Objective.of(ObjectiveConfig(**settings), custom, Prediction(predicts))


def lines(of):
    return list(of.lines())


def test_without_a_choice_it_is_the_familys_and_says_whose_custom_that_is():
    of = objective(predicts=FLOW)
    assert of.drawn.distribution is QWEN
    assert lines(of) == [
        "the model predicts a flow",
        "noise levels: logit-normal, shift 2.2 (the custom of musubi-tuner)",
    ]


def test_a_choice_says_that_it_is_one():
    of = objective(noise_levels="uniform", least_noise=0.2)
    assert lines(of)[1] == "noise levels: uniform, only from 0.2 to 1 (chosen at Training Objective)"


@pytest.mark.parametrize("custom", [QWEN, FLUX])
def test_a_shift_of_ones_own_takes_the_place_of_the_familys(custom):
    """Also where that goes by the size of the picture."""
    of = objective(custom, shift=5.0)
    assert of.drawn.distribution == Distribution(LOGIT_NORMAL, shift=5.0)
    assert lines(of)[1] == "noise levels: logit-normal, shift 5 (chosen at Training Objective)"


def test_a_chosen_distribution_has_not_the_shift_of_the_family():
    assert objective(noise_levels="logit-normal").drawn.distribution == Distribution(LOGIT_NORMAL)
    assert objective(noise_levels="logit-normal", shift=3.0).drawn.distribution.shift == 3


def test_everything_that_was_changed_is_said():
    of = objective(
        loss="huber",
        huber_c=0.2,
        weighting=MIN_SNR,
        noise_offset=0.05,
        multires_iterations=6,
        input_perturbation=0.1,
    )
    assert lines(of)[2] == (
        "loss huber, c 0.2, weights min-SNR, gamma 5, noise offset 0.05, multires noise 6 x 0.3, input"
        " perturbation 0.1; held-out pictures are measured by plain mean squared error"
    )


@pytest.mark.parametrize("weighting", [MIN_SNR, DEBIASED])
def test_snr_weights_of_a_flow_are_refused_with_the_reason(weighting):
    with pytest.raises(SettingError, match=f"'{weighting}' means nothing .* how often they are drawn"):
        objective(predicts=FLOW, weighting=weighting)
    objective(predicts=V, weighting=weighting)


def test_a_range_that_the_family_next_to_never_draws_is_refused():
    with pytest.raises(SettingError, match=r"least noise 0 to most noise 0\.01"):
        objective(Distribution(LOGIT_NORMAL, shift=7.0), most_noise=0.01)


def test_what_a_run_depends_on_is_in_its_identity_and_whose_custom_it_is_is_not():
    one = objective().identity()
    assert one == objective(Distribution(LOGIT_NORMAL, shift=2.2, custom="somebody")).identity()
    others = [
        objective(noise_levels="uniform"),
        objective(shift=2.0),
        objective(most_noise=0.9),
        objective(loss="huber"),
        objective(weighting=MIN_SNR),
        objective(noise_offset=0.1),
        objective(input_perturbation=0.1),
        objective(predicts=V),
    ]
    assert all(other.identity() != one for other in others)


def drawn(seed=0):
    latents, noise, added = torch.randn(
        3, 2, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(seed)
    ).unbind()
    network = ToyNetwork()
    return network, latents, (noise, added), network.levels(torch.tensor([0.1, 0.8]))


def test_the_loss_of_a_step_is_the_weighted_mean_over_the_pictures():
    network, latents, (noise, added), levels = drawn()
    each = losses(network, pictures(), latents, noise, levels, added=added)
    snr = levels.sigmas**-2
    expected = (each * (snr.clamp(max=5) / snr)).mean()
    got = objective(weighting=MIN_SNR).loss(network, pictures(), latents, (noise, added), levels)
    assert got.shape == () and got.dtype == torch.float32
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)
    assert got.item() != pytest.approx(each.mean().item(), rel=0.01)


def test_the_network_sees_what_is_added_and_should_find_the_noise():
    """Against the formula written out: the toy predicts noise from latents of variance 1."""
    network, latents, (noise, added), levels = drawn()
    got = Objective().loss(network, pictures(), latents, (noise, added), levels)
    sigmas = levels.sigmas.view(-1, 1, 1, 1)
    seen = ((latents + sigmas * added) / (1 + sigmas**2).sqrt()).float()
    found = network.predict(seen, levels, network.encode(pictures()))
    assert got.item() == pytest.approx(((found - noise) ** 2).mean().item(), rel=1e-6)
