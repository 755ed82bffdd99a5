"""Targets, SNR and min-SNR weights behind ComfyUI's own nodes, against closed forms written from the papers;
and what is said of a checkpoint that predicts something else than the graph makes of it.
"""

import numpy as np
import pytest

EXACT = 1e-6


@pytest.fixture(scope="module")
def check(found_by):
    return found_by("noise_levels.py")


@pytest.fixture(scope="module")
def u(check):
    return np.array(check["u"])


def steps(u):
    return (u * 1000).astype(int)


# tables of sigmas -------------------------------------------------------------------------------------------


def alphas_bar():
    """The scaled linear schedule of latent diffusion (Rombach et al. 2022), from 0.00085 to 0.012."""
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


def zero_terminal():
    """Lin et al. 2023, arXiv 2305.08891, algorithm 1. ComfyUI does not go all the way to 0."""
    root = alphas_bar() ** 0.5
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return np.append(root[:-1] ** 2, 4.8973451890853435e-08)


def of_ddpm(u):
    return (1 / alphas_bar()[steps(u)] - 1) ** 0.5


def of_zero_terminal(u):
    return (1 / zero_terminal()[steps(u)] - 1) ** 0.5


def log_spaced(least, most):
    return lambda u: np.geomspace(least, most, 1000)[steps(u)]


def shares(u):
    """The share of noise is u itself: a node's shift is for sampling. None at all would say nothing."""
    return np.maximum(u, 1e-4)


def odds(u):
    """Noise over signal, as Cosmos counts."""
    return np.minimum(shares(u) / (1 - shares(u)), 120)


# what is predicted ------------------------------------------------------------------------------------------
# How much of the latents x and of the noise e is in the target; the SNR; the min-SNR weight.


def eps(s):
    """Ho et al. 2020: e. Hang et al. 2023: min(SNR, 5) / SNR."""
    snr = s**-2.0
    return (0 * s, 1 + 0 * s), snr, np.minimum(snr, 5) / snr


def v(s):
    """Salimans & Ho 2022: alpha e - sigma x. Hang et al. 2023: min(SNR, 5) / (SNR + 1)."""
    alpha, sigma = (1 / (1 + s**2)) ** 0.5, s / (1 + s**2) ** 0.5
    snr = alpha**2 / sigma**2
    return (-sigma, alpha), snr, np.minimum(snr, 5) / (snr + 1)


def edm(s, data=0.5):
    """Karras et al. 2022, table 1: (x - c_skip (x + s e)) / c_out, where an error of the output is one of
    c_out in the picture.
    """
    skip, out = data**2 / (s**2 + data**2), s * data / (s**2 + data**2) ** 0.5
    return ((1 - skip) / out, -skip * s / out), s**-2.0, np.minimum(s**-2.0, 5) * out**2


def flow(t):
    """Liu et al. 2022: e - x over (1 - t) x + t e."""
    snr = ((1 - t) / t) ** 2
    return (-1 + 0 * t, 1 + 0 * t), snr, np.minimum(snr, 5) * t**2


def flow_of_odds(s):
    return flow(s / (1 + s))


def picture(s):
    """x, of which Hang et al. 2023 write the weight as min(SNR, 5)."""
    return (1 + 0 * s, 0 * s), s**-2.0, np.minimum(s**-2.0, 5)


CASES = {
    "none": (of_ddpm, eps, "noise (eps)"),
    "rescale cfg": (of_ddpm, eps, "noise (eps)"),
    "discrete eps": (of_ddpm, eps, "noise (eps)"),
    "discrete eps zsnr": (of_zero_terminal, eps, "noise (eps) with zero terminal SNR"),
    "discrete v": (of_ddpm, v, "v"),
    "discrete v zsnr": (of_zero_terminal, v, "v with zero terminal SNR"),
    "discrete x0": (of_ddpm, picture, "the picture (x0)"),
    "continuous v": (log_spaced(0.03, 500), v, "v"),
    "edm eps": (log_spaced(0.002, 120), eps, "noise (eps)"),
    "edm v": (log_spaced(0.002, 120), v, "v"),
    "edm edm": (log_spaced(0.002, 120), edm, "the output of EDM"),
    "edm playground": (log_spaced(0.002, 120), edm, "the output of EDM"),
    "edm cosmos": (odds, flow_of_odds, "a flow"),
    "sd3": (shares, flow, "a flow"),
    "aura": (shares, flow, "a flow"),
    "flux": (shares, flow, "a flow"),
}


def close(found, expected, rtol=EXACT):
    found = np.array(found)
    return found.shape == expected.shape and np.allclose(found, expected, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_sigmas_are_those_that_the_model_was_trained_with(check, u, name):
    """ComfyUI has its tables in fp32, that of EDM by way of logarithms: off by 4e-7."""
    table = CASES[name][0]
    rtol = 3e-6 if name.startswith(("edm", "continuous")) else EXACT
    assert close(check["levels"][name]["sigmas"], table(u), rtol)


@pytest.mark.parametrize("name", CASES)
def test_target_snr_and_weight_are_those_of_the_papers(check, name):
    found, form = check["levels"][name], CASES[name][1]
    (of_latents, of_noise), snr, weight = form(np.array(found["sigmas"]))
    assert close(found["target of latents"], of_latents)
    assert close(found["target of noise"], of_noise)
    assert close(found["snr"], snr)
    assert close(found["min-SNR"], weight)


def test_zero_terminal_snr_is_reached_without_infinite_numbers(check):
    found = check["levels"]["discrete v zsnr"]
    assert found["snr"][-1] == pytest.approx(4.9e-8, rel=0.01)
    assert found["target of latents"][-1] == pytest.approx(-1, rel=EXACT)
    assert all(np.isfinite(found[name]).all() for name in ("sigmas", "target of noise", "snr", "min-SNR"))


def test_comfyui_noises_as_we_do_and_makes_the_picture_of_our_target(check):
    """Of whole batches, of pictures and of what has a dimension more. LCM's is a mixture of its own."""
    assert set(check["levels"]) == {*CASES, "discrete lcm", "cascade"}
    for name, found in check["levels"].items():
        assert found["off"] < EXACT, name


def test_what_is_predicted_is_told_by_its_numbers(check):
    for name, (_, _, words) in CASES.items():
        assert check["levels"][name]["predicts"] == words, name
        assert check["levels"][name]["flow"] == (words == "a flow"), name
    assert "none of noise, v" in check["levels"]["discrete lcm"]["predicts"]
    assert check["levels"]["cascade"]["predicts"] == "noise (eps)"


def test_a_node_that_changes_what_is_predicted_is_told_and_one_that_does_not_is_not(check):
    levels = check["levels"]
    assert levels["none"]["said"] == levels["discrete eps"]["said"] == levels["rescale cfg"]["said"] == []
    (said,) = levels["discrete v zsnr"]["said"]
    assert "makes the model predict v with zero terminal SNR" in said
    assert said.endswith("reads the checkpoint as one of noise (eps)")
    assert "cannot be learned at the most noise" in levels["discrete eps zsnr"]["said"][1]
    assert "LCM and other distilled models break" in levels["discrete lcm"]["said"][1]


# the checkpoint's own word ----------------------------------------------------------------------------------


def test_the_file_of_a_checkpoint_is_asked(check):
    assert check["in file"] == {
        "nothing": None,
        "v_pred": "v",
        "edm v": "v",
        "playground": "edm",
        "says epsilon": "eps",
        "says v": "v",
        "v_pred, says epsilon": "v",
        "broken": None,
        "gone": None,
        "unknown": None,
    }


SAY_V = ("v_pred", "edm v", "says v", "v_pred, says epsilon")
SAY_NOTHING_ELSE = ("nothing", "says epsilon", "broken", "gone", "unknown")


@pytest.mark.parametrize("file", SAY_V)
def test_a_checkpoint_of_v_is_never_trained_as_one_of_noise_because_a_node_is_not_there(check, file):
    refused = check["no node"][file]["refused"]
    assert "file says that it predicts v, and ComfyUI takes it for one of noise (eps)" in refused
    assert "ModelSamplingDiscrete before Train, with sampling 'v_prediction'" in refused
    assert check["v by a node"][file]["refused"] == ""


def test_a_checkpoint_of_edm_is_refused_with_its_own_node(check):
    refused = check["no node"]["playground"]["refused"]
    assert "predicts the output of EDM" in refused and "ModelSamplingContinuousEDM before Train" in refused


@pytest.mark.parametrize("file", SAY_NOTHING_ELSE)
def test_a_checkpoint_of_noise_is_trained_as_one_without_a_word(check, file):
    assert check["no node"][file] == {"refused": "", "said": []}
    assert check["eps by a node"][file] == {"refused": "", "said": []}


def test_where_the_file_is_wrong_a_node_decides_and_it_is_told(check):
    said = {name: " ".join(found["said"]) for name, found in check["eps by a node"].items()}
    assert all("file says that it predicts v, not noise (eps)" in said[name] for name in SAY_V)
    said = {name: " ".join(found["said"]) for name, found in check["v by a node"].items()}
    assert "file says that it predicts noise (eps), not v" in said["says epsilon"]
    assert all("makes the model predict v, and so it is trained" in text for text in said.values())


def test_a_checkpoint_that_comfyui_reads_as_v_is_told_where_a_node_makes_it_noise(check):
    """Also while the model is loaded, with the node's object in place of its own."""
    found = check["of a v checkpoint"]
    assert found["alone"] == found["alone, while the other is loaded"] == {"refused": "", "said": []}
    (said,) = found["eps by a node"]["said"]
    assert "makes the model predict noise (eps)" in said and said.endswith("as one of v")
    assert found["loaded"] == found["eps by a node"]
