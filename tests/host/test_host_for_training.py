"""While it trains, the host does nothing that a backward pass cannot take; afterwards it is as it was."""

import pytest


@pytest.fixture(scope="module")
def check(found_by):
    return found_by("host_for_training.py")


def test_no_offload_streams_no_fp16_sums_and_embeddings_stay_where_they_are(check):
    settings = check["settings"]
    assert settings["before"] == [2, True, "meta"]
    assert settings["inside"] == [0, False, "cpu"]
    assert settings["after"] == settings["before"]


def test_activations_are_fp32_where_autocast_does_not_make_them_the_runs_dtype(check):
    """fp16 has not the range of bf16: gradients between the blocks would be lost. fp16 itself has its loss
    scale.
    """
    found = check["activations"]
    assert found["torch.float16"] == "torch.float16"
    assert found["torch.bfloat16"] == found["torch.float32"] == "torch.float32"
    assert found["afterwards"] == "torch.float16"


def test_activations_of_an_fp64_model_are_fp32_in_every_precision(check):
    """ComfyUI computes in fp64 when it is started with --fp64-unet. Autocast leaves fp64 alone, so that it
    would meet the 16 bits of a LoRA.
    """
    found = check["activations of fp64"]
    assert found["torch.float16"] == found["torch.bfloat16"] == found["torch.float32"] == "torch.float32"
    assert found["afterwards"] == "torch.float64"


def test_what_a_newer_host_streams_in_is_loaded_at_once(check):
    found = check["streamed"]
    assert found["model"] == found["clip's patcher"] == found["clip's module"] == "loaded"


def test_what_it_cannot_load_at_once_is_refused_with_what_to_do(check):
    assert "--disable-dynamic-vram" in check["streamed"]["error"]


def test_quantized_weights_are_refused_by_name(check):
    assert "quantized (Packed)" in check["quantized"]
