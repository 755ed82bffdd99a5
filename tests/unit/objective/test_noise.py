"""The noise of a step, with what is done to it."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.objective.noise import NoiseRecipe, multires
from comfyui_dadapt_lora.trainer.seeds import CPU, noise_of_step, uniform
from torch import nn

SHAPES = [(3, 4, 16, 24), (3, 16, 1, 16, 24), (3, 8, 40)]  # of pictures, of newer models, of sound
RECIPES = {
    "plain": NoiseRecipe(),
    "offset": NoiseRecipe(offset=0.1),
    "multires": NoiseRecipe(multires_iterations=6),
    "perturbed": NoiseRecipe(perturbation=0.1),
    "everything": NoiseRecipe(0.1, 8, 0.8, 0.1),
}


def drawn(name, seed=5, step=3, shape=SHAPES[0]):
    return RECIPES[name].of_step(seed, step, shape, CPU)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_noise_is_the_noise_of_the_step_bit_for_bit(shape):
    noise, added = drawn("plain", shape=shape)
    assert added is noise
    assert torch.equal(noise, noise_of_step(5, 3, shape, CPU))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_all_noise_is_a_function_of_seed_step_and_place(name, shape):
    """The same however large the batch is; other numbers for every seed, step and place."""
    both = drawn(name, shape=shape)
    assert all(one.shape == shape for one in both)
    for again, first in zip(drawn(name, shape=(2, *shape[1:])), both, strict=True):
        assert torch.allclose(again, first[:2], rtol=1e-6, atol=1e-6)
    for other in (drawn(name, seed=6, shape=shape), drawn(name, step=4, shape=shape)):
        assert not torch.allclose(other[1], both[1], atol=0.1)
    assert not torch.allclose(both[1][0], both[1][1], atol=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_offset_is_one_number_for_each_channel_of_each_picture(shape):
    offset = (drawn("offset", shape=shape)[0] - drawn("plain", shape=shape)[0]).flatten(2)
    assert torch.allclose(offset, offset[..., :1].expand_as(offset), atol=1e-6)
    assert torch.unique(offset[..., 0].round(decimals=5)).numel() == shape[0] * shape[1]


def test_offsets_are_normal_and_as_large_as_is_asked():
    offsets = torch.cat(
        [(drawn("offset", step=n)[0] - drawn("plain", step=n)[0])[..., 0, 0] for n in range(400)]
    )
    assert abs(offsets.mean()) < 0.005
    assert offsets.std() == pytest.approx(0.1, rel=0.05)


def test_offset_is_in_what_is_added_as_well():
    noise, added = drawn("offset")
    assert added is noise


def test_input_perturbation_is_seen_and_not_to_be_found():
    """Ning et al. 2023, algorithm 1: x_t has the noise plus gamma times another one, the target is the
    noise.
    """
    noise, added = drawn("perturbed")
    assert torch.equal(noise, drawn("plain")[0])
    other = (added - noise) / 0.1
    assert other.std() == pytest.approx(1, rel=0.05)
    assert abs(torch.corrcoef(torch.stack((other.flatten(), noise.flatten())))[0, 1]) < 0.06


@pytest.mark.parametrize("iterations, discount", [(1, 0.3), (3, 0.8), (10, 0.5)])
def test_multires_noise_is_that_of_sd_scripts(iterations, discount):
    """Its `pyramid_noise_like` (kohya-ss/sd-scripts 48d368f, library/custom_train_functions.py), written out
    for one picture with the numbers of this step. With one picture its deviation is that of the batch.
    """
    shape = (1, *SHAPES[0][1:])
    upsample = nn.Upsample(size=shape[2:], mode="bilinear")
    noise = noise_of_step(5, 3, shape, CPU)
    expected = noise.clone()
    for i in range(iterations):
        r = uniform(5, "multires size", 3, i) * 2 + 2
        w, h = max(1, int(shape[2] / (r**i))), max(1, int(shape[3] / (r**i)))
        expected += upsample(noise_of_step(5, 3, (*shape[:2], w, h), CPU, f"multires {i}")) * discount**i
        if w == 1 or h == 1:
            break
    expected = expected / expected.std()
    assert torch.allclose(multires(noise, 5, 3, iterations, discount), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_multires_noise_has_deviation_1_and_neighbours_that_are_alike(shape):
    noise = RECIPES["everything"].of_step(0, 0, shape, CPU)[0]
    assert torch.allclose(noise.flatten(1).std(1), torch.ones(shape[0]), rtol=1e-5)
    neighbours = torch.stack((noise[..., 1:].flatten(), noise[..., :-1].flatten()))
    plain = drawn("plain", shape=shape)[0]
    unlike = torch.stack((plain[..., 1:].flatten(), plain[..., :-1].flatten()))
    assert torch.corrcoef(neighbours)[0, 1] > 0.1 > abs(torch.corrcoef(unlike)[0, 1])
