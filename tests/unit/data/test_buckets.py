"""Aspect buckets."""

import pytest
from comfyui_dadapt_lora.trainer.data.buckets import (
    STEP,
    bucket_for,
    bucket_sizes,
    fit_to_bucket,
    share_cropped,
)
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageOps

RESOLUTIONS = st.integers(1, 32).map(lambda n: n * STEP)  # all that DatasetConfig allows


@given(resolution=RESOLUTIONS)
def test_buckets_are_multiples_of_the_step_and_never_larger_than_the_resolution_allows(resolution):
    sizes = bucket_sizes(resolution)
    assert (resolution, resolution) in sizes
    for width, height in sizes:
        assert width % STEP == height % STEP == 0
        assert width * height <= resolution**2
        assert max(width, height) <= 2 * min(width, height)


@given(resolution=RESOLUTIONS, side=st.integers(1, 5000))
def test_no_square_picture_is_cropped_at_any_resolution(resolution, side):
    DatasetConfig(resolution=resolution)  # is allowed
    assert bucket_for(side, side, resolution) == (resolution, resolution)
    assert share_cropped((side, side), bucket_for(side, side, resolution)) == pytest.approx(0, abs=1e-9)


@given(resolution=RESOLUTIONS.filter(lambda side: side >= 512), shape=st.floats(0.5, 2))
def test_a_picture_of_a_trained_shape_loses_little_from_512_pixels_on(resolution, shape):
    size = (round(1000 * shape), 1000)
    assert share_cropped(size, bucket_for(*size, resolution)) < 0.15


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_turning_a_picture_turns_its_bucket(width, height):
    assert bucket_for(width, height, 512) == bucket_for(height, width, 512)[::-1]


@pytest.mark.parametrize(
    "size, expected",
    [
        ((512, 512), (512, 512)),
        ((4000, 3000), (576, 448)),
        ((1000, 5000), (320, 640)),
        ((100, 100), (512, 512)),
    ],
)
def test_known_pictures_at_512(size, expected):
    assert bucket_for(*size, 512) == expected


@given(width=st.integers(1, 700), height=st.integers(1, 700))
def test_a_fitted_picture_has_the_buckets_size(width, height):
    bucket = bucket_for(width, height, 128)
    assert fit_to_bucket(Image.new("RGB", (width, height)), bucket).size == bucket


@pytest.mark.parametrize(
    "size, bucket, share",
    [
        ((512, 512), (128, 128), 0),
        ((400, 100), (128, 64), 0.5),
        ((100, 150), (128, 128), 1 / 3),
        ((10, 10), (512, 512), 0),
    ],
)
def test_the_share_that_is_cropped(size, bucket, share):
    assert share_cropped(size, bucket) == pytest.approx(share)


def test_what_lies_outside_is_cropped_equally_on_both_sides():
    """A stripe in the middle of a wide picture stays in the middle: its mirror image is the same."""
    picture = Image.new("RGB", (300, 100), "white")
    picture.paste("red", (140, 0, 160, 100))
    fitted = fit_to_bucket(picture, (64, 64))
    assert fitted.getpixel((32, 32)) == (255, 0, 0)
    assert ImageChops.difference(fitted, ImageOps.mirror(fitted)).getextrema() == ((0, 0),) * 3
