"""The order in which a run shows its pictures."""

from collections import Counter

import torch
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.data.order import Order
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
    order = Order(pictures, batch_size, seed)
    batches = [order.batch(step) for step in range(2 * order.steps_per_epoch)]
    for number in (1, 2):
        batches_of = [batch for batch in batches if batch.epoch == number]
        shown = Counter(picture.caption for batch in batches_of for picture in batch.pictures)
        assert shown == {picture.caption: picture.repeats for picture in pictures}
    for batch in batches:
        assert 1 <= len(batch.pictures) <= batch_size
        assert batch.latents.shape == (len(batch.pictures), *batch.pictures[0].latent.shape)


@given(pictures=data_sets(), batch_size=st.integers(1, 5), step=st.integers(0, 60))
def test_a_step_shows_the_same_without_the_steps_before_it(pictures, batch_size, step):
    walked = Order(pictures, batch_size, seed=3)
    for earlier in range(step):
        walked.batch(earlier)
    assert walked.batch(step) == Order(pictures, batch_size, seed=3).batch(step)


def captions(order, epoch):
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    return [order.batch(step).pictures[0].caption for step in steps]


def test_epochs_and_seeds_come_in_different_orders():
    pictures = [LatentPicture(torch.zeros(1, 1, 1), str(place)) for place in range(10)]
    orders = [captions(Order(pictures, 1, seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len(set(map(tuple, orders))) == 4


def test_every_picture_comes_first_about_as_often_as_another():
    pictures = [LatentPicture(torch.zeros(1, 1, 1), str(place)) for place in range(4)]
    order = Order(pictures, 1, seed=0)
    first = Counter(captions(order, epoch)[0] for epoch in range(400))
    assert all(70 < first[picture.caption] < 130 for picture in pictures)
