"""Captions, trigger words, repeats and buckets reach the network, through the server.

A seed and a data set give one LoRA bit for bit here. So two data sets that mean the same must give the same
one, and two that differ in one thing different ones: dropping that thing anywhere on its way would be seen.
"""

import shutil

import pytest
import torch
from PIL import Image, ImageDraw

from tests.host import graph, results


@pytest.fixture
def lora_of(server, client, folder):
    """Trains on a folder of these pictures and captions, and returns its LoRA."""

    def lora_of(pictures, train_text_encoder=False, run=None, **data):
        shutil.rmtree(folder)
        for name, (picture, caption) in pictures.items():
            file = folder / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
            file.with_suffix(".txt").write_text(caption, encoding="utf-8")
        workflow = graph.training(folder.relative_to(server.base / "input").as_posix(), **(run or {}))
        graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
        graph.settings(workflow, "DAdaptLoRAConfig").update(train_text_encoder=train_text_encoder)
        graph.settings(workflow, "DAdaptLoadDataset").update(data)
        execution = client.run(workflow).check()
        lora_of.steps = results.report(execution, graph.node_of(workflow, "DAdaptTrain"))["steps"]
        return results.run_lora(
            results.run_folder(server.base, execution, graph.node_of(workflow, "DAdaptTrain"))
        )

    return lora_of


def flat(colour, size=(128, 128)):
    return Image.new("RGB", size, colour)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("train_text_encoder", [False, True], ids=["encoded once", "encoded live"])
def test_each_caption_reaches_the_network_with_its_own_picture(lora_of, train_text_encoder):
    own, swapped, again = (
        lora_of(
            {"1": (flat("red"), captions[0]), "2": (flat("blue"), captions[1])},
            train_text_encoder=train_text_encoder,
        )
        for captions in (
            ("a red wall", "a blue wall"),
            ("a blue wall", "a red wall"),
            ("a red wall", "a blue wall"),
        )
    )
    assert same(own, again)
    assert not same(own, swapped)


def test_a_trigger_word_is_what_writing_it_before_each_caption_is(lora_of):
    by_setting = lora_of({"1": (flat("red"), "a red wall")}, trigger_word="zorp")
    by_hand = lora_of({"1": (flat("red"), "zorp, a red wall")})
    without = lora_of({"1": (flat("red"), "a red wall")})
    assert same(by_setting, by_hand)
    assert not same(by_setting, without)


def test_repeats_are_what_copies_of_the_file_are(lora_of):
    epoch = {"duration": 1, "duration_unit": "epochs"}
    blue = (flat("blue"), "a blue wall")
    red = (flat("red"), "a red wall")
    repeated = lora_of({"2_blue/1": blue, "3_red/1": red}, run=epoch)
    assert lora_of.steps == 5
    copied = lora_of({"1": blue, "2": blue, "3": red, "4": red, "5": red}, run=epoch)
    assert lora_of.steps == 5
    once = lora_of({"1": blue, "3": red}, run=epoch | {"duration": 5, "duration_unit": "steps"})
    assert same(repeated, copied)
    assert not same(repeated, once)


def test_a_wide_picture_is_trained_in_its_bucket(lora_of):
    """128 x 80 is cut to 128 x 64, its bucket at resolution 128: what is above and below does not count."""
    wide = flat("red", (128, 64))
    ImageDraw.Draw(wide).ellipse((20, 10, 70, 60), fill="blue")
    taller = flat("green", (128, 80))
    taller.paste(wide, (0, 8))
    exact, cut = (lora_of({"1": (picture, "a wall")}, resolution=128) for picture in (wide, taller))
    square = lora_of({"1": (taller.resize((128, 128)), "a wall")}, resolution=128)
    assert same(exact, cut)
    assert not same(exact, square)


def test_pictures_of_two_buckets_never_share_a_step(lora_of):
    wide = flat("red", (128, 64)), "a wall"
    square = flat("red"), "a wall"
    epoch = {"duration": 1, "duration_unit": "epochs", "batch_size": 4}
    lora_of({"1": wide, "2": square, "3": square}, run=epoch)
    assert lora_of.steps == 2
    lora_of({"1": square, "2": square, "3": square}, run=epoch)
    assert lora_of.steps == 1
