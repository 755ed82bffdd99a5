"""Through quantized weights that ComfyUI can load, training gets the gradients of the numbers that they stand
for. Others are refused by name.
"""

import pytest

CASES = (
    "fp8",
    "fp8 e5m2",
    "fp8, fast",
    "scaled fp8",
    "scaled fp8, fast",
    "QuantizedTensor",
    "QuantizedTensor on a GPU with fp8",
    "QuantizedTensor, fast",
    "GGUF",
    "GGUF in fp32",
)
FOREIGN = ("Packed", "Params4bit", "int8", "QuantizedTensor", "GGMLTensor", "AWQ")


@pytest.fixture(scope="module")
def check(found_by):
    return found_by("quantized_weights.py")


def test_every_case_is_looked_at(check):
    assert set(check["cases"]) == set(CASES)


@pytest.mark.parametrize("tokens", [8, 40])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_plain_layers(check, case, tokens):
    """Of a LoRA and of the input, through three layers: exactly in fp32, and but for rounding in bf16."""
    found = check["cases"][case]
    assert found[f"fp32, {tokens} tokens"] < 1e-6
    assert 0 < found[f"bf16, {tokens} tokens"] < 0.02


@pytest.mark.parametrize("case", CASES)
def test_weights_are_given_back_and_infer_as_before(check, case):
    assert check["cases"][case]["given back"]
    assert check["cases"][case]["infers as before"] in (True, None)


@pytest.mark.parametrize("case", CASES)
def test_a_lora_has_the_size_of_the_numbers_not_of_the_bytes(check, case):
    assert check["cases"][case]["values"] == 4 * (64 + 64)


def test_nothing_is_computed_in_fp8_while_training(check):
    assert check["settings"] == {"before": False, "inside": [None, True], "after": [True, False]}


def test_weights_in_fp8_are_not_copied(check):
    assert check["memory"] == [False, True, "torch.float8_e4m3fn"]


@pytest.mark.parametrize("case", CASES)
def test_what_trains_is_not_refused(check, case):
    assert check["cases"][case]["refused"] == ""


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_known_is_refused_by_name_with_what_to_do(check, kind):
    """So are ComfyUI's own weights in layers that are not its own."""
    assert f"quantized ({kind})" in check["foreign"][kind]
    assert "Load the model in" in check["foreign"][kind]


def test_a_text_encoder_that_trains_is_looked_at_too(check):
    assert "quantized (Packed)" in check["foreign text encoder"]


def test_layers_without_a_gradient_are_refused_with_what_to_do(check):
    assert "--fast cublas_ops" in check["foreign"]["CublasLinear"]


def test_embeddings_may_be_of_any_kind(check):
    """No gradient goes through them."""
    assert check["embedding"] == ""
