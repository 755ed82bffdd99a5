"""Train runs again if and only if what it trains on has changed."""

import os

import pytest
from PIL import Image

from tests.host import graph


@pytest.fixture
def queue(client, folder_name):
    """Queues the same short training; tells whether it really trained."""
    workflow = graph.training(folder_name, duration=1)
    train = graph.node_of(workflow, "DAdaptTrain")

    def run() -> bool:
        execution = client.run(workflow).check()
        trained = bool(execution.events_of("dadapt_lora.step"))
        assert trained == (train not in execution.cached_nodes)
        return trained

    assert run()
    return run


def touch(file) -> None:
    os.utime(file, (1_000_000_000, 1_000_000_000))


def test_unchanged_folder_does_not_train_again(queue):
    assert not queue()


def test_new_date_alone_does_not_train_again(queue, folder):
    for file in folder.iterdir():
        touch(file)
    assert not queue()


def test_changed_caption_trains_again(queue, folder):
    (folder / "red.txt").write_text("a wall in crimson", encoding="utf-8")
    assert queue()
    assert not queue()


def test_changed_picture_trains_again(queue, folder):
    Image.new("RGB", (128, 128), "green").save(folder / "red.png")
    assert queue()
    assert not queue()


def test_new_and_renamed_and_removed_pictures_train_again(queue, folder):
    Image.new("RGB", (128, 128), "white").save(folder / "white.png")
    assert queue()
    (folder / "white.png").rename(folder / "snow.png")
    assert queue()
    (folder / "snow.png").unlink()
    assert queue()


def test_file_that_is_no_picture_does_not_train_again(queue, folder):
    (folder / "notes.md").write_text("not for training", encoding="utf-8")
    assert not queue()


def test_a_second_training_encodes_only_pictures_that_are_new(client, folder_name, folder):
    """Said on the node while it happens."""

    def encoded(seed: int) -> str | None:
        workflow = graph.training(folder_name, duration=1, seed=seed)
        phases = [event.data["text"] for event in client.run(workflow).check().events_of("dadapt_lora.phase")]
        return next((text for text in reversed(phases) if text.startswith("encoding pictures")), None)

    Image.new("RGB", (128, 128), "olive").save(folder / "olive.png")
    assert encoded(seed=1)
    assert encoded(seed=2) is None
    Image.new("RGB", (128, 128), "navy").save(folder / "navy.png")
    assert encoded(seed=2) == "encoding pictures 1/1"
