"""What a LoRA holds follows from the seed, the parts that train, and what is upstream of Train.

One prompt trains them all.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from devhost.execution import Execution
from tests.host import graph, results

STEPS = 3
PICTURE_SEED = 5  # another than all other pictures have
UNET, TEXT = "lora_unet_", "lora_te_"
UNET_LAYERS, ALL_UNET_LAYERS, TEXT_LAYERS = 48, 69, 72  # of the demo model
LAST_LAYERS = [f"lora_te_text_model_encoder_layers_{layer}_" for layer in (10, 11)]


@dataclass(frozen=True)
class Run:
    """What one training left."""

    lora: dict[str, torch.Tensor]
    lora_name: str  # in the host's Load LoRA
    text: str  # of its report
    metadata: dict[str, str]
    rates: list[tuple[float | None, float | None]]  # d * lr of UNet and text encoder, by step


@dataclass(frozen=True)
class Queued:
    """One workflow with all the trainings."""

    workflow: graph.Workflow
    trains: dict[str, str]  # node ids by the names of the runs
    picture: str  # node id


def with_all_trainings(again_folder: str, lora_name: str) -> Queued:
    """The trainings, and a picture of the one on a LoRA, by its own MODEL and CLIP.

    No KSampler runs between the others: it would set the seed of torch's own generator, and hide a training
    that draws from it.
    """
    workflow = graph.training("dadapt_demo/heldout", duration=STEPS)
    graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
    dataset = graph.settings(workflow, "DAdaptLoadDataset") | {"folder": again_folder}
    again = graph.add(workflow, "DAdaptLoadDataset", **dataset)

    def config(unet: bool, layers: str = "attention") -> str:
        parts = {"train_unet": unet, "train_text_encoder": not unet}
        return graph.add(workflow, "DAdaptLoRAConfig", dim=4, alpha="same as dim", layers=layers, **parts)

    unet_only = config(unet=True)
    text_only = config(unet=False)
    all_layers = config(unet=True, layers="all")
    last_layer = {"clip": [graph.loader(workflow), 1], "stop_at_clip_layer": -2}
    clip_skip = graph.add(workflow, "CLIPSetLastLayer", **last_layer)
    lora = graph.add_load_lora(workflow, lora_name)
    trains = {
        "plain": graph.node_of(workflow, "DAdaptTrain"),
        "same seed": graph.add_training(workflow, dataset=[again, 0]),
        "another seed": graph.add_training(workflow, seed=1),
        "UNet only": graph.add_training(workflow, lora_config=[unet_only, 0]),
        "all layers": graph.add_training(workflow, lora_config=[all_layers, 0]),
        "checkpointed": graph.add_training(workflow, checkpointing="on"),
        "text encoder only": graph.add_training(workflow, lora_config=[text_only, 0]),
        "clip skip": graph.add_training(workflow, clip=[clip_skip, 0]),
        "on a LoRA": graph.add_training(workflow, model=[lora, 0], clip=[lora, 1]),
    }
    # raises where ComfyUI does not take every layer of the file back
    file = {"filename": "all_layers", "dtype": "fp32", "existing_file": "overwrite"}
    graph.add(workflow, "DAdaptSaveLoRA", lora=[trains["all layers"], 2], **file)
    stacked = trains["on a LoRA"]
    picture = graph.add_picture(workflow, [stacked, 0], [stacked, 1], PICTURE_SEED)
    return Queued(workflow, trains, picture)


def left_by(base: Path, execution: Execution, train: str) -> Run:
    folder = results.run_folder(base, execution, train)
    rates = [record["dlr"] for record in results.steps(folder)]
    return Run(
        lora=results.run_lora(folder),
        lora_name=(folder / "lora.safetensors").relative_to(base / "output" / "loras").as_posix(),
        text=results.report(execution, train)["text"],
        metadata=results.metadata(folder / "lora.safetensors"),
        rates=[(rate.get("unet"), rate.get("clip_l")) for rate in rates],
    )


@pytest.fixture(scope="module")
def runs_and_picture(server, client, trained) -> tuple[dict[str, Run], np.ndarray]:
    """The runs by name, and the picture of the one on a LoRA."""
    pictures = server.base / "input" / "dadapt_demo" / "heldout"
    # a copy, because ComfyUI would take the second training of the same pictures from its cache
    shutil.copytree(pictures, pictures.with_name("heldout again"))
    queued = with_all_trainings("dadapt_demo/heldout again", trained.loras["fp32"])
    execution = client.run(queued.workflow).check()
    runs = {name: left_by(server.base, execution, train) for name, train in queued.trains.items()}
    return runs, results.picture(client, execution, queued.picture)


@pytest.fixture(scope="module")
def runs(runs_and_picture) -> dict[str, Run]:
    return runs_and_picture[0]


def same(one: Run, other: Run) -> bool:
    assert one.lora.keys() == other.lora.keys()
    return all(torch.equal(one.lora[name], other.lora[name]) for name in one.lora)


def test_same_seed_and_pictures_give_the_same_lora_bit_for_bit(runs):
    assert runs["plain"].lora_name != runs["same seed"].lora_name
    assert same(runs["plain"], runs["same seed"])


def test_another_seed_gives_another_lora(runs):
    assert not same(runs["plain"], runs["another seed"])
    assert runs["another seed"].metadata["ss_seed"] == "1"


def test_both_parts_train_by_default(runs):
    assert len(results.layers(runs["plain"].lora, UNET)) == UNET_LAYERS
    assert len(results.layers(runs["plain"].lora, TEXT)) == TEXT_LAYERS


def test_unet_only(runs):
    run = runs["UNet only"]
    assert len(results.layers(run.lora)) == len(results.layers(run.lora, UNET)) == UNET_LAYERS
    assert all(unet > 0 and text is None for unet, text in run.rates)
    assert "ss_unet_lr" in run.metadata and "ss_text_encoder_lr" not in run.metadata
    assert "48 UNet layers at dim 4" in run.text


def test_all_layers_of_the_unet(runs):
    """Every linear layer and convolution; files say so as the established trainer does for convolutions of
    its own.
    """
    run = runs["all layers"]
    assert len(results.layers(run.lora)) == len(results.layers(run.lora, UNET)) == ALL_UNET_LAYERS
    assert run.lora["lora_unet_conv_in.lora_down.weight"].shape[2:] == (3, 3)
    assert run.lora["lora_unet_conv_in.lora_up.weight"].shape[2:] == (1, 1)
    assert json.loads(run.metadata["ss_network_args"]) == {"conv_dim": 4, "conv_alpha": 4.0}
    assert "ss_network_args" not in runs["UNet only"].metadata


def test_all_layers_of_the_unet_load_through_the_hosts_own_load_lora(client, runs):
    """At strength 1 and -1 one after the other they cancel out, layer by layer; alone they change the
    picture.
    """
    name = runs["all layers"].lora_name
    workflow = graph.checkpoint()
    once = graph.add_load_lora(workflow, name)
    back = graph.add_load_lora(workflow, name, [once, 0], [once, 1])
    workflow[back]["inputs"].update(strength_model=-1.0)
    loader = graph.loader(workflow)
    places = [
        graph.add_picture(workflow, [node, 0], [node, 1], PICTURE_SEED) for node in (loader, once, back)
    ]
    execution = client.run(workflow).check()
    plain, changed, cancelled = (results.picture(client, execution, place) for place in places)
    assert results.difference(plain, cancelled) < 0.01
    assert results.difference(plain, changed) > 1


def test_checkpointing_gives_the_same_lora_and_is_told(runs):
    """The same but for the order in which bf16 gradients are added up."""
    one, other = runs["checkpointed"], runs["plain"]
    assert (
        "each block is computed a second time" in one.text
        and "each block is computed a second time" not in other.text
    )
    assert all(torch.allclose(one.lora[name], other.lora[name], atol=1e-5) for name in other.lora)


def test_text_encoder_only(runs):
    run = runs["text encoder only"]
    assert len(results.layers(run.lora)) == len(results.layers(run.lora, TEXT)) == TEXT_LAYERS
    assert all(unet is None and text > 0 for unet, text in run.rates)
    assert "ss_text_encoder_lr" in run.metadata and "ss_unet_lr" not in run.metadata
    assert "72 text encoder clip_l layers at dim 4" in run.text


@pytest.mark.parametrize("name", ["plain", "UNet only", "text encoder only", "all layers"])
def test_every_trained_layer_has_moved(runs, name):
    """Each `up` starts at zero."""
    lora = runs[name].lora
    assert [layer for layer in results.layers(lora) if not lora[f"{layer}.lora_up.weight"].any()] == []


def moved_layers(run: Run, prefix: str) -> list[str]:
    return [layer for layer in results.layers(run.lora, prefix) if run.lora[f"{layer}.lora_up.weight"].any()]


def test_clip_set_last_layer_is_honoured_and_reported(runs):
    """At -2 the last layer takes no part: it cannot have learned anything, while the one before it has."""
    run = runs["clip skip"]
    assert moved_layers(run, LAST_LAYERS[0]) and not moved_layers(run, LAST_LAYERS[1])
    assert moved_layers(runs["plain"], LAST_LAYERS[1])
    assert "CLIP Set Last Layer -2" in run.text
    assert run.metadata["ss_clip_skip"] == "2"


def test_lora_upstream_is_reported(runs):
    assert "LoRAs or other patches on 120 weights" in runs["on a LoRA"].text
    assert "LoRAs or other patches" not in runs["plain"].text


def test_lora_upstream_is_part_of_the_model_that_is_trained(runs):
    """The same seed and pictures give another LoRA on top of it."""
    assert not same(runs["plain"], runs["on a LoRA"])


def test_lora_stacks_on_the_one_upstream(client, trained, runs_and_picture):
    """Train's own outputs are both LoRAs, one after the other, through the host's own Load LoRA."""
    runs, both = runs_and_picture
    run = runs["on a LoRA"]
    workflow = graph.checkpoint()
    first = graph.add_load_lora(workflow, trained.loras["fp32"])
    second = graph.add_load_lora(workflow, run.lora_name, [first, 0], [first, 1])
    stacked = graph.add_picture(workflow, [second, 0], [second, 1], PICTURE_SEED)
    alone = graph.add_lora_picture(workflow, run.lora_name, PICTURE_SEED)
    execution = client.run(workflow).check()
    assert results.difference(results.picture(client, execution, stacked), both) < 0.001
    assert results.difference(results.picture(client, execution, alone), both) > 1
