"""ComfyUI's own nodes take what Train gives."""

import numpy as np
import pytest
import safetensors.torch

from tests.host import graph, results


@pytest.fixture(scope="module")
def workflow(trained):
    """The training again, which is cached."""
    return graph.only_upstream(trained.workflow, "DAdaptTrain")


def test_load_lora_model_takes_lora_model(client, trained, workflow):
    """It gives the picture of Train's own MODEL."""
    model = graph.add(
        workflow,
        "LoraModelLoader",
        model=[graph.loader(workflow), 0],
        lora=[trained.train, 2],
        strength_model=1.0,
    )
    node = graph.add_picture(workflow, [model, 0], [trained.train, 1])
    assert np.array_equal(results.picture(client, client.run(workflow).check(), node), trained.with_lora)


def test_save_lora_weights_takes_lora_model(server, client, trained, workflow):
    graph.add(workflow, "SaveLoRA", lora=[trained.train, 2], prefix="loras/by_the_host", steps=6)
    client.run(workflow).check()
    (file,) = (server.base / "output" / "loras").glob("by_the_host_6_steps_*.safetensors")
    assert safetensors.torch.load_file(file).keys() == results.run_lora(trained.run_folder).keys()


def test_plot_loss_graph_takes_report(client, trained, workflow):
    graph.add(workflow, "LossGraphNode", loss=[trained.train, 3], filename_prefix="loss")
    client.run(workflow).check()


def test_load_lora_takes_the_name_that_save_lora_gives(client, trained, workflow):
    """As a link: no need to choose the file by hand."""
    save = graph.add(
        workflow,
        "DAdaptSaveLoRA",
        lora=[trained.train, 2],
        filename="linked",
        dtype="fp32",
        existing_file="overwrite",
    )
    text = graph.add(workflow, "PreviewAny", source=[save, 0])
    execution = client.run(workflow).check()
    assert (
        execution.outputs[text]["text"] == ["linked.safetensors"] == [results.saved(execution, save)["name"]]
    )
    offered = client.object_info("LoraLoader")["input"]["required"]["lora_name"][0]
    assert "linked.safetensors" in offered
