"""Load Dataset on a server: what is told while it reads, cancel, and pictures that change afterwards."""

import shutil

import pytest
from PIL import Image

from tests.host import graph

COPIES = 40


def loading(folder: str) -> tuple[graph.Workflow, str]:
    """Load Dataset with its contact sheet, and its id."""
    workflow = graph.only_upstream(graph.training(folder), "DAdaptLoadDataset")
    load = graph.node_of(workflow, "DAdaptLoadDataset")
    graph.add(workflow, "PreviewImage", images=[load, 1])
    return workflow, load


def phases(execution, node: str) -> list[str]:
    told = execution.events_of("dadapt_lora.phase")
    return [event.data["text"] for event in told if event.data["node"] == node]


@pytest.fixture
def large_pictures(folder):
    """Of 20 megapixels each: all of them take seconds to read."""
    Image.new("RGB", (5000, 4000), "olive").save(folder / "00.png")
    for number in range(1, COPIES):
        shutil.copyfile(folder / "00.png", folder / f"{number:02}.png")


def test_reading_is_shown_on_the_node_picture_by_picture(client, folder_name):
    workflow, load = loading(folder_name)
    execution = client.run(workflow).check()
    assert phases(execution, load) == ["reading pictures", "reading pictures 1/2", "reading pictures 2/2"]
    bar = [event.data for event in execution.events_of("progress") if event.data["node"] == load]
    assert [(data["value"], data["max"]) for data in bar] == [(1, 2), (2, 2)]


@pytest.mark.usefixtures("large_pictures")
def test_cancel_is_heard_while_pictures_are_read(client, folder_name):
    workflow, load = loading(folder_name)
    prompt_id = client.submit(workflow)
    client.wait_for(
        prompt_id,
        lambda event: event.type == "dadapt_lora.phase" and "reading pictures 1/" in event.data["text"],
    )
    client.interrupt()
    execution = client.wait(prompt_id, timeout=300)
    assert execution.status == "interrupted"
    assert f"reading pictures {COPIES + 2}/{COPIES + 2}" not in phases(execution, load)


def test_a_picture_that_vanishes_while_they_are_encoded_is_named_without_a_path(
    server, client, folder, folder_name
):
    """Neither the message nor the name of the error's class says where ComfyUI lies on the disk."""
    for number in range(COPIES):  # the same picture twice would be encoded once
        Image.new("RGB", (128, 128), (number, 0, 0)).save(folder / f"{number:02}.png")
    prompt_id = client.submit(graph.training(folder_name))
    client.wait_for(
        prompt_id,
        lambda event: event.type == "dadapt_lora.phase" and "encoding pictures 2/" in event.data["text"],
    )
    for file in folder.glob("*.png"):
        file.unlink()
    error = client.wait(prompt_id, timeout=300).error
    assert error.class_type == "DAdaptTrain"
    assert "has changed since Load Dataset read it: it is no longer there" in error.message
    assert "The picture " in error.message and ".png" in error.message
    assert str(server.base) not in error.message
    assert error.exception_type == "dadapt_lora.DatasetError"
