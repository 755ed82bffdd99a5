"""Training gets the gradients of the model that ComfyUI itself computes: hooks, restored tensors and cloned
inputs change nothing. The model is a tiny SD 1.5 with random weights, which round more than trained ones do.
"""

import pytest


@pytest.fixture(scope="module")
def check(found_by):
    return found_by("gradient_check.py")


def test_hooks_compute_what_the_patched_model_computes(check):
    assert check["loss"] == pytest.approx(check["patched_loss"], rel=1e-5)


@pytest.mark.parametrize("direction", ["unet.down", "unet.up", "clip_l.down", "clip_l.up"])
def test_gradient_is_the_slope_of_the_patched_models_loss(check, direction):
    """Within 1%: the difference is taken in fp32 over a finite step."""
    gradient, slope = check["directions"][direction]
    assert slope == pytest.approx(gradient, rel=0.01)


def test_every_adapted_layer_gets_a_gradient(check):
    assert check["without_gradient"] == []


@pytest.mark.parametrize(
    "way, tolerance",
    # computed block by block, the gradients of a tensor that several blocks read are added up in another
    # order: a rounding in bf16
    [("saving fp32", 1e-6), ("saving bf16", 1e-6), ("checkpointed fp32", 1e-6), ("checkpointed bf16", 8e-3)],
)
def test_keeping_less_for_backward_changes_no_gradient(check, way, tolerance):
    """Against PyTorch's own way, which keeps every cast weight and every activation."""
    assert check[way] < tolerance


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("bf16", 0.03)])
def test_convolutions_as_products_change_no_gradient_but_for_rounding(check, precision, tolerance):
    """Through all of the host's own, of every stride and kernel that its UNet has."""
    assert check["convolutions as products"] > 20
    assert check[f"products {precision}"] < tolerance


def test_every_attention_is_that_of_training_and_plain_in_bf16(check):
    """None has more than 256 keys here. The text encoder sees all captions at once."""
    every = check["attentions"]
    assert every > 10
    assert check["attention fp32"] == {"training_attention": every}
    assert check["attention bf16"] == {"training_attention": every, "plain_attention": every}


@pytest.mark.parametrize("part", ["unet", "clip_l"])
def test_bf16_gradients_are_those_of_fp32_but_for_rounding(check, part):
    """Attention of few keys is computed otherwise in bf16. A numeral of bf16 is off by up to 0.4%."""
    assert 0 < check["bf16 against fp32"][part] < 0.04
