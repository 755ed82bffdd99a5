"""Captions reach the network in one batch as they would one by one."""

import pytest

from tests.host.tiny_families.table import EDITORS

TOKENS = 77  # of one chunk of CLIP


@pytest.fixture(scope="module")
def check(found_by):
    return found_by("conditioning_check.py")


@pytest.mark.parametrize(
    "chunks, passes",  # a pass: how many captions, and of how many chunks
    [
        ("3 4 5 7", [(1, 7), (1, 5), (1, 4), (1, 3)]),
        ("1 2 4", [(3, 4)]),
        ("2 1 3 1", [(3, 3), (1, 2)]),
        ("1 7", [(1, 7), (1, 1)]),  # ComfyUI repeats text up to four times
    ],
)
def test_captions_of_several_lengths_compute_what_they_do_one_by_one(check, chunks, passes):
    """Repeated text changes nothing for cross-attention: shorter captions join those of a multiple of their
    length. None becomes longer than the longest (3, 4, 5 and 7 chunks would become 420), and the batch has
    its own order again afterwards.
    """
    found = check["chunks"][chunks]
    assert found["apart"] < 1e-12  # in fp64
    assert found["read"] == [[captions, TOKENS * chunks] for captions, chunks in passes]


def test_where_text_may_not_be_repeated_only_equal_lengths_share_a_pass(check):
    assert check["groups"] == [[0, 1, 2], [3]]
    assert check["groups without repeating"] == [[0, 2], [3], [1]]


def test_each_caption_of_an_sdxl_batch_has_its_own_pooled_output(check):
    assert check["pooled"]["own"] < 1e-6
    assert check["pooled"]["others"] > 0.01


def test_a_batch_gives_what_comfyuis_own_encode_gives_for_each_caption(check):
    """Embeddings, pooled output and masks of every family's text encoders, all of them trained."""
    assert len(check["against ComfyUI"]) > 20
    assert {name: error for name, error in check["against ComfyUI"].items() if error > 1e-6} == {}


def test_a_trained_encoder_computes_a_batch_at_once_and_one_beside_it_each_caption_once(check):
    """CLIP-L trains and T5 does not, for three steps of the same two captions."""
    assert check["frozen"] == {
        "calls of clip_l": 3,
        "calls of t5xxl": 2,
        "t5xxl is the same": True,
        "gradient of clip_l": True,
        "gradient of t5xxl": False,
    }


DRAWS_FROM_TEXT_TOO = {"HunyuanVideo15"}


@pytest.mark.parametrize("name", sorted(EDITORS.keys() - DRAWS_FROM_TEXT_TOO))
def test_a_model_that_wants_a_picture_is_refused(check, name):
    assert "Load a" in check["refused"][name]


@pytest.mark.parametrize("name", sorted(DRAWS_FROM_TEXT_TOO))
def test_a_model_that_can_do_without_a_picture_is_not(check, name):
    assert check["refused"][name] == ""
