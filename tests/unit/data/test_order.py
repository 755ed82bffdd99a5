"""The order in which a run shows its pictures."""

from collections import Counter
from itertools import islice

import torch
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.data.order import batches_per_epoch, epochs
from hypothesis import given
from hypothesis import strategies as st

SHAPES = [(4, 8, 8), (4, 8, 16), (4, 16, 8)]


@st.composite
def data_sets(draw):
    rows = draw(st.lists(st.tuples(st.sampled_from(SHAPES), st.integers(1, 4)), min_size=1, max_size=12))
    return [
        LatentPicture(torch.zeros(shape), str(place), repeats) for place, (shape, repeats) in enumerate(rows)
    ]


@given(pictures=data_sets(), batch_size=st.integers(1, 5), seed=st.integers(0, 1000))
def test_each_epoch_shows_each_picture_as_often_as_it_is_repeated(pictures, batch_size, seed):
    length = batches_per_epoch(pictures, batch_size)
    batches = list(islice(epochs(pictures, batch_size, torch.Generator().manual_seed(seed)), 2 * length))
    for number in (1, 2):
        shown = Counter(caption for batch in batches if batch.epoch == number for caption in batch.captions)
        assert shown == {picture.caption: picture.repeats for picture in pictures}
    for batch in batches:
        assert 1 <= len(batch.pictures) <= batch_size
        assert batch.latents.shape == (len(batch.pictures), *batch.pictures[0].latent.shape)


def test_epochs_come_in_different_orders():
    pictures = [LatentPicture(torch.zeros(1, 1, 1), str(place)) for place in range(10)]
    batches = list(islice(epochs(pictures, 1, torch.Generator().manual_seed(0)), 20))
    orders = [[batch.captions[0] for batch in batches if batch.epoch == number] for number in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
