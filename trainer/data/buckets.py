"""Aspect buckets: the picture sizes that one batch can share, all of about the same area."""

import math
from functools import cache

from PIL import Image

from ..settings.dataset import SIZE_STEP as STEP
from .latents import Framing


@cache
def bucket_sizes(resolution: int) -> tuple[tuple[int, int], ...]:
    """All (width, height) in multiples of 64 pixels, at most 2:1 in shape and `resolution` squared in area.

    For each width it is the largest height that fits, and the same turned by 90 degrees.
    """
    sizes = set()
    for width in range(STEP, 2 * resolution + 1, STEP):
        height = min(resolution * resolution // width, 2 * width) // STEP * STEP
        if height >= STEP and width <= 2 * height:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def bucket_for(width: int, height: int, resolution: int) -> tuple[int, int]:
    """The bucket nearest in shape to a picture of `width` x `height`; of equally near ones the largest."""
    shape = math.log(width / height)
    return min(
        bucket_sizes(resolution),
        key=lambda size: (abs(math.log(size[0] / size[1]) - shape), -size[0] * size[1]),
    )


def share_cropped(size: tuple[int, int], bucket: tuple[int, int]) -> float:
    """The share, from 0 to 1, of a picture of `size` that `fit_to_bucket` crops."""
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    return 1 - bucket[0] * bucket[1] / (size[0] * size[1] * scale**2)


def fit_to_bucket(picture: Image.Image, bucket: tuple[int, int]) -> Image.Image:
    """Scales a picture to cover the bucket and crops what lies outside, equally on both sides."""
    size = _scaled(picture.size, bucket)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = _crop(size, bucket)
    return picture.crop((left, top, left + bucket[0], top + bucket[1]))


def framing_of(original: tuple[int, int], bucket: tuple[int, int]) -> Framing:
    """What `fit_to_bucket` does to a picture of this size."""
    return Framing(original, _crop(_scaled(original, bucket), bucket), bucket)


def _scaled(size: tuple[int, int], bucket: tuple[int, int]) -> tuple[int, int]:
    """The size at which a picture covers the bucket."""
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    return max(bucket[0], round(size[0] * scale)), max(bucket[1], round(size[1] * scale))


def _crop(size: tuple[int, int], bucket: tuple[int, int]) -> tuple[int, int]:
    """What lies outside of the bucket at the left and at the top."""
    return (size[0] - bucket[0]) // 2, (size[1] - bucket[1]) // 2
