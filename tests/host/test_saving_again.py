"""A LoRA that was trained is saved again where its file is gone or could not be written, and not trained
again for it.
"""

import pytest
import torch
from safetensors.torch import load_file

from devhost.execution import Execution
from tests.host import graph, results


class Saving:
    """A short training with one Save LoRA, to be queued again and again."""

    def __init__(self, server, client, folder_name: str, filename: str, **settings) -> None:
        self.client = client
        self.loras = server.base / "output" / "loras"
        self.workflow = graph.training(folder_name, duration=1)
        self.train = graph.node_of(self.workflow, "DAdaptTrain")
        inputs = {"filename": filename, "dtype": "fp32", "existing_file": "add a number"} | settings
        self.save = graph.add(self.workflow, "DAdaptSaveLoRA", lora=[self.train, 2], **inputs)

    def queue(self) -> Execution:
        return self.client.run(self.workflow)

    def is_trained_in(self, execution: Execution) -> bool:
        return self.train not in execution.cached_nodes or bool(execution.events_of("dadapt_lora.step"))

    def files(self) -> list[str]:
        name = self.workflow[self.save]["inputs"]["filename"]
        return sorted(path.name for path in self.loras.glob(f"{name}*"))


@pytest.mark.parametrize("existing_file", ["add a number", "overwrite"])
def test_a_file_that_was_deleted_is_saved_again(server, client, folder_name, existing_file):
    saving = Saving(server, client, folder_name, f"again_{existing_file[:3]}", existing_file=existing_file)
    saving.queue().check()
    (name,) = saving.files()
    first = load_file(saving.loras / name)

    unchanged = saving.queue().check()
    assert {saving.train, saving.save} <= unchanged.cached_nodes

    (saving.loras / name).unlink()
    again = saving.queue().check()
    assert saving.save in again.executed_nodes and not saving.is_trained_in(again)
    assert saving.files() == [name]
    second = load_file(saving.loras / name)
    assert second.keys() == first.keys() and all(torch.equal(second[key], first[key]) for key in first)

    once_more = saving.queue().check()
    assert {saving.train, saving.save} <= once_more.cached_nodes
    assert saving.files() == [name]


def test_no_second_copy_of_the_same_lora_is_written_while_the_first_is_there(server, client, folder_name):
    """Also where ComfyUI has forgotten both, as it does after another workflow, and trains the same again."""
    saving = Saving(server, client, folder_name, "forgotten")
    first = results.saved(saving.queue().check(), saving.save)
    other: graph.Workflow = {}
    latent = graph.add(other, "EmptyLatentImage", width=64, height=64, batch_size=1)
    graph.add(other, "SaveLatent", samples=[latent, 0], filename_prefix="other")
    client.run(other).check()
    again = saving.queue().check()
    assert {saving.train, saving.save} <= again.executed_nodes and saving.is_trained_in(again)
    assert results.saved(again, saving.save) == first
    assert saving.files() == ["forgotten.safetensors"]


@pytest.mark.linux
def test_a_disk_that_refuses_is_told_with_the_file_and_the_next_queue_only_saves(server, client, folder_name):
    """A full disk cannot be had here: a limit on the size of files fails the same write in the same way."""
    import resource

    saving = Saving(server, client, folder_name, "full")
    save = saving.workflow.pop(saving.save)
    saving.queue().check()  # trained, and nothing saved yet
    saving.workflow[saving.save] = save
    limits = resource.prlimit(server.process_id, resource.RLIMIT_FSIZE)
    room = server.log.stat().st_size + 100_000  # for ComfyUI's own log
    resource.prlimit(server.process_id, resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        refused = saving.queue()
    finally:
        resource.prlimit(server.process_id, resource.RLIMIT_FSIZE, limits)
    assert refused.error.node_id == saving.save
    told = refused.error.message
    assert "loras/full.safetensors could not be written to ComfyUI's output folder: File too large." in told
    assert "Then queue again" in told and "saved without training again" in told
    assert str(server.base) not in told
    assert saving.files() == [] and not list(saving.loras.glob("*.partial"))

    again = saving.queue().check()
    assert not saving.is_trained_in(again)
    assert saving.files() == ["full.safetensors"]
    assert (saving.loras / "full.safetensors").stat().st_size > room
