"""Every preset trains on the server, and the file says which optimizer it was."""

import pytest
import torch

from tests.host import graph, results

OPTIMIZERS = {
    "guide 2023": "comfyui_dadapt_lora.trainer.optim.dadapt.DAdaptAdam(weight_decay=0.02)",
    "steady": "comfyui_dadapt_lora.trainer.optim.dadapt.DAdaptAdam(weight_decay=0.02)",
    "Prodigy": "prodigyopt.prodigy.Prodigy(weight_decay=0.02)",
    "Prodigy + schedule-free": (
        "prodigyplus.prodigy_plus_schedulefree.ProdigyPlusScheduleFree(weight_decay=0.02)"
    ),
    "AdamW": "torch.optim.adamw.AdamW(weight_decay=0.02)",
    "as published": "comfyui_dadapt_lora.trainer.optim.dadapt.DAdaptAdam(weight_decay=0.02)",
}


@pytest.mark.parametrize("preset", OPTIMIZERS)
def test_preset_trains(server, client, folder_name, preset):
    workflow = graph.training(folder_name, duration=3)
    graph.settings(workflow, "DAdaptOptimizer").update(preset=preset)
    train = graph.node_of(workflow, "DAdaptTrain")
    execution = client.run(workflow).check()
    folder = results.run_folder(server.base, execution, train)
    assert results.metadata(folder / "lora.safetensors")["ss_optimizer"] == OPTIMIZERS[preset]
    up = [tensor for name, tensor in results.run_lora(folder).items() if "lora_up" in name]
    assert len(up) == 120 and all(tensor.abs().sum() > 0 for tensor in up)
    records = results.steps(folder)
    assert all(record["dlr"]["clip_l"] == pytest.approx(0.5 * record["dlr"]["unet"]) for record in records)
    assert [record["d"] is None for record in records] == [preset == "AdamW"] * 3
    warned = "the optimizer ran as published" in results.report(execution, train)["text"]
    assert warned == (preset == "as published")


def test_reference_and_fast_train_the_same_lora(server, client, folder_name):
    """Here with the network of the demo, and the largest difference of any value against the largest
    value.
    """
    ends = []
    for implementation in ("reference", "fast"):
        workflow = graph.training(folder_name, duration=4)
        graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER | {"implementation": implementation})
        execution = client.run(workflow).check()
        ends.append(
            results.run_lora(
                results.run_folder(server.base, execution, graph.node_of(workflow, "DAdaptTrain"))
            )
        )
    reference, fast = ends
    for name, tensor in reference.items():
        assert torch.allclose(fast[name], tensor, rtol=1e-3, atol=1e-3 * tensor.abs().max().item()), name
