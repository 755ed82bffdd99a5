"""A run that is cancelled or fails leaves what it has trained, the base model as it was, and a server that
works.
"""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.host import graph, results

LONG = 300  # steps: far more than are waited for


@pytest.fixture
def before(client):
    """What the untouched model samples."""
    workflow, _, save = graph.base_sample()
    return results.latent(client, client.run(workflow).check(), save)


@pytest.fixture
def long_run(folder_name):
    workflow = graph.training(folder_name, duration=LONG)
    graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
    return workflow


def started(server, client, workflow) -> tuple[str, Path]:
    """The prompt's id and its run folder, after its second step."""
    others = results.run_folders(server.base)
    prompt_id = client.submit(workflow)
    client.wait_for(
        prompt_id, lambda event: event.type == "dadapt_lora.step" and event.data["step"] >= 2, timeout=300
    )
    (folder,) = results.run_folders(server.base) - others
    return prompt_id, folder


def assert_base_model_is_untouched(client, before) -> None:
    """A KSampler that really runs again, on the model that stayed loaded, gives the same bytes."""
    workflow, sampler, save = graph.base_sample()
    again = client.run(workflow).check()
    assert graph.loader(workflow) in again.cached_nodes
    assert sampler in again.executed_nodes
    assert torch.equal(results.latent(client, again, save), before)


def assert_lora_is_loadable(server, client, folder) -> None:
    """The host's own Load LoRA lists the run's file, and the file changes what is sampled."""
    workflow = graph.checkpoint()
    lora = graph.add_load_lora(
        workflow, folder.relative_to(server.base / "output" / "loras").joinpath("lora.safetensors").as_posix()
    )
    sampler = graph.add_sampler(workflow, [lora, 0], [lora, 1])
    save = graph.add(workflow, "SaveLatent", samples=[sampler, 0], filename_prefix="test")
    changed = results.latent(client, client.run(workflow).check(), save)
    reference, _, save = graph.base_sample()
    assert not torch.equal(changed, results.latent(client, client.run(reference).check(), save))


def test_cancel_in_the_middle(server, client, before, long_run):
    prompt_id, folder = started(server, client, long_run)
    client.interrupt()
    execution = client.wait(prompt_id, timeout=300)
    assert execution.status == "interrupted"
    assert_base_model_is_untouched(client, before)

    report, records = results.run_report(folder), results.steps(folder)
    assert report["ended"] == "cancelled"
    assert report["step"] == len(records) < LONG
    assert results.metadata(folder / "lora.safetensors")["ss_steps"] == str(len(records))
    assert len(results.layers(results.run_lora(folder))) == 120
    assert_lora_is_loadable(server, client, folder)
    assert (
        f"cancelled after step {len(records)} of {LONG}\nthe LoRA until then:"
        f" loras/dadapt_runs/{folder.name}/" in server.log.read_text()
    )


def test_error_in_the_middle(server, client, trained, before, folder_name):
    """Here the run fails because its numbers stay not finite: a LoRA before Train has weights that no product
    survives.
    """
    broken = {
        name: tensor * 1e30 if "lora_up" in name else tensor
        for name, tensor in load_file(trained.files["fp32"]).items()
    }
    save_file(broken, server.base / "output" / "loras" / "broken.safetensors")
    others = results.run_folders(server.base)
    workflow = graph.training(folder_name, duration=LONG)
    graph.settings(workflow, "DAdaptOptimizer").update(burn_guard=False)
    lora = graph.add_load_lora(workflow, "broken.safetensors")
    graph.settings(workflow, "DAdaptTrain").update(model=[lora, 0], clip=[lora, 1])
    execution = client.run(workflow)
    (folder,) = results.run_folders(server.base) - others
    assert execution.status == "error"
    assert execution.error.class_type == "DAdaptTrain"
    assert "not finite" in execution.error.message
    assert_base_model_is_untouched(client, before)

    report = results.run_report(folder)
    assert report["ended"] == "failed" and "not finite" in report["reason"]
    assert report["step"] == len(results.steps(folder)) == 20
    assert not list(folder.glob("*.safetensors"))  # no step changed the LoRA


def test_a_disk_that_fails_costs_neither_the_run_nor_what_is_on_it(server, client, folder_name):
    """Something that cannot be written over lies where the run's LoRA is to be; the best one, which would be
    that, stays where it is.
    """
    workflow = graph.training(folder_name, duration=12, measure_every=2)
    graph.settings(workflow, "DAdaptLoadDataset").update(heldout_folder="dadapt_demo/heldout")
    graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
    train = graph.node_of(workflow, "DAdaptTrain")
    save = graph.add(
        workflow, "DAdaptSaveLoRA", lora=[train, 2], filename="disk", dtype="fp32", existing_file="overwrite"
    )
    prompt_id, folder = started(server, client, workflow)
    (folder / "lora.safetensors").mkdir()
    (folder / "lora.safetensors" / "in the way").touch()
    execution = client.wait(prompt_id, timeout=300).check()
    report = results.report(execution, train)
    assert (
        f"Warning: lora.safetensors could not be written to loras/dadapt_runs/{folder.name}: "
        in report["text"]
    )
    assert results.metadata(folder / "best.safetensors")["ss_steps"] == str(report["best_step"])
    assert (server.base / "output" / results.saved(execution, save)["file"]).is_file()


def test_cancel_before_the_first_step_leaves_no_run_folder(server, client, folder, folder_name):
    for number in range(40):  # the same picture twice would be encoded once
        Image.new("RGB", (128, 128), (number, 0, 0)).save(folder / f"{number}.png")
    others = results.run_folders(server.base)
    prompt_id = client.submit(graph.training(folder_name, duration=LONG))
    client.wait_for(
        prompt_id,
        lambda event: event.type == "dadapt_lora.phase" and "encoding pictures 2/" in event.data["text"],
    )
    client.interrupt()
    execution = client.wait(prompt_id, timeout=300)
    assert execution.status == "interrupted"
    assert not execution.events_of("dadapt_lora.step")
    assert results.run_folders(server.base) == others


def test_finished_training_leaves_the_base_model_untouched(client, before, folder_name):
    workflow = graph.training(folder_name)
    graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
    client.run(workflow).check()
    assert_base_model_is_untouched(client, before)
