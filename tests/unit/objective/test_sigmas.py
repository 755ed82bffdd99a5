"""Which noise levels are drawn: against scipy's normal distribution, numeric integrals, and draws that are
thrown away.
"""

import math

import pytest
import torch
from comfyui_dadapt_lora.trainer.distribution import LOGIT_NORMAL, UNIFORM, Distribution, TokenShift
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.objective.sigmas import DrawnLevels
from comfyui_dadapt_lora.trainer.seeds import uniform_of_step
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

SHAPE = (1, 4, 64, 64)
EVENLY_SPACED = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000

DISTRIBUTIONS = {
    "uniform": Distribution(),
    "uniform, shifted": Distribution(shift=3.0),
    "logit-normal": Distribution(LOGIT_NORMAL),
    "logit-normal, to little noise": Distribution(LOGIT_NORMAL, mean=-0.3, std=0.9, shift=0.7),
    "logit-normal, to much noise": Distribution(LOGIT_NORMAL, mean=0.3, std=1.4, shift=7.0),
    "by tokens": Distribution(LOGIT_NORMAL, by_tokens=TokenShift()),
}


def cumulative(of, u):
    """Written with scipy, for one number: the share of the distribution below u."""
    shift = of.shift if of.by_tokens is None else math.exp(0.5 + (1024 - 256) * (1.15 - 0.5) / (4096 - 256))
    odds = u / (1 - u) / shift  # a shift multiplies the odds
    if of.kind == UNIFORM:
        return odds / (1 + odds)
    return stats.norm(of.mean, of.std).cdf(math.log(odds))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_share_p_of_the_draws_lies_below_the_draw_of_p(name):
    of = DISTRIBUTIONS[name]
    drawn = DrawnLevels(of).u(EVENLY_SPACED, SHAPE)
    assert drawn.dtype == torch.float64
    shares = torch.tensor([cumulative(of, u) for u in drawn.tolist()], dtype=torch.float64)
    assert torch.allclose(shares, EVENLY_SPACED, rtol=0, atol=1e-9)


def test_uniform_draws_are_the_uniform_numbers_bit_for_bit():
    """So that a run without Training Objective is what it was before there was one."""
    numbers = uniform_of_step(3, 700, 64)
    assert torch.equal(DrawnLevels().u(numbers, SHAPE), numbers)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("least, most", [(0.0, 1.0), (0.25, 0.6), (0.0, 0.1), (0.9, 1.0)])
def test_a_range_draws_what_throwing_the_others_away_draws(name, least, most):
    """Against 200,000 draws of the whole distribution, by the largest distance between the two."""
    of = DISTRIBUTIONS[name]
    whole = DrawnLevels(of).u((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000, SHAPE)
    kept = whole[(whole >= least) & (whole <= most)]
    drawn = DrawnLevels(of, least, most).u(EVENLY_SPACED, SHAPE)
    assert drawn.min() >= least and drawn.max() <= most
    shares = torch.searchsorted(kept.sort().values, drawn) / len(kept)
    assert (shares - EVENLY_SPACED).abs().max() < 2 / len(kept) + 1e-6


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("least, most", [(0.0, 1.0), (0.25, 0.6)])
def test_the_density_is_that_of_the_draws(name, least, most):
    """Its integral over a tenth of the levels is the share of the draws there, and over all of them 1."""
    drawn = DrawnLevels(DISTRIBUTIONS[name], least, most)
    shift = drawn.distribution.shift_for(SHAPE)
    u = drawn.u(EVENLY_SPACED, SHAPE)

    def density(at):
        return drawn.density(torch.tensor([at], dtype=torch.float64), shift).item()

    shares = []
    for tenth in range(10):
        start, end = tenth / 10, (tenth + 1) / 10
        inside = (max(start, least), min(end, most))
        shares.append(integrate.quad(density, *inside, limit=200)[0] if inside[0] < inside[1] else 0)
        found = ((u >= start) & (u < end)).double().mean().item()
        assert shares[-1] == pytest.approx(found, abs=1.5e-3)
    assert sum(shares) == pytest.approx(1, abs=1e-6)


@given(
    st.sampled_from([UNIFORM, LOGIT_NORMAL]),
    st.floats(-5, 5),
    st.floats(0.05, 10),
    st.floats(0.01, 100),
    st.floats(0, 0.9),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=8),
)
def test_every_draw_has_a_place_in_a_table_and_more_is_more(kind, mean, std, shift, least, numbers):
    """Also where the normal number is infinite: a uniform number can be 0, and a sigmoid can round to 1."""
    drawn = DrawnLevels(Distribution(kind, mean, std, shift), least)
    u = drawn.u(torch.tensor(sorted(numbers), dtype=torch.float64), SHAPE)
    assert ((u >= least) & (u < 1)).all()
    assert ((u * 1000).long() < 1000).all()
    assert (u.diff() >= 0).all()


@pytest.mark.parametrize("height, width", [(64, 64), (128, 128), (192, 96), (33, 47)])
def test_the_shift_of_flux_is_that_of_sd_scripts(height, width):
    """kohya-ss/sd-scripts 48d368f, library/flux_train_utils.py: `get_lin_function` and `time_shift`."""
    m = (1.15 - 0.5) / (4096 - 256)
    mu = m * ((height // 2) * (width // 2)) + 0.5 - m * 256
    of = Distribution(LOGIT_NORMAL, by_tokens=TokenShift())
    t = torch.sigmoid(torch.special.ndtri(EVENLY_SPACED))
    expected = math.exp(mu) / (math.exp(mu) + (1 / t - 1) ** 1.0)
    got = DrawnLevels(of).u(EVENLY_SPACED, (2, 16, height, width))
    assert torch.allclose(got, expected, rtol=1e-12, atol=0)


def test_tokens_may_be_of_another_size_and_latents_of_another_rank():
    assert TokenShift(patch=1).tokens_of((1, 128, 64, 32)) == 2048
    assert TokenShift().tokens_of((1, 16, 1, 64, 32)) == 512


def test_a_range_with_next_to_nothing_in_it_is_refused_with_what_lies_there():
    narrow = DrawnLevels(Distribution(LOGIT_NORMAL, std=0.05), 0.9, 1.0)
    with pytest.raises(SettingError, match=r"least noise 0\.9 to most noise 1: .*'logit-normal, mean 0, dev"):
        narrow.refuse_empty()
    DrawnLevels(Distribution(LOGIT_NORMAL), 0.9, 1.0).refuse_empty()
    DrawnLevels(Distribution(), 0.5, 0.50001).refuse_empty()


@pytest.mark.parametrize(
    "of, words",
    [
        (Distribution(), "uniform"),
        (Distribution(LOGIT_NORMAL, shift=3.0), "logit-normal, shift 3"),
        (Distribution(LOGIT_NORMAL, 0.5, 2.0), "logit-normal, mean 0.5, deviation 2"),
        (
            Distribution(LOGIT_NORMAL, by_tokens=TokenShift()),
            "logit-normal, shift by size, 1.65 at 256 tokens to 3.16 at 4096 tokens",
        ),
    ],
)
def test_a_distribution_in_words(of, words):
    assert str(of) == words
