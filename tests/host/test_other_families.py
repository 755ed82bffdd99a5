"""SDXL and Flux go the whole way on a real server: Train, a picture by KSampler, Save LoRA, Load LoRA.

Their networks are tiny, with random weights, and so are their VAEs: what pictures show is noise, but the same
noise for the same weights.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from tests.host import graph, results

CHANNELS = {"SDXL": 4, "Flux": 16}  # of latents
ENCODERS = {"SDXL": "auto", "Flux": "clip_l"}
UNET, TEXT = "lora_unet_", ("lora_te1_", "lora_te2_")
EMPTY = {"SDXL": "EmptyLatentImage", "Flux": "EmptySD3LatentImage"}


def models(workflow: graph.Workflow, family: str) -> tuple[str, str, str]:
    """Ids of the nodes that output its MODEL, CLIP and VAE."""
    return (
        graph.add(workflow, "TinyModel", family=family),
        graph.add(workflow, "TinyCLIP", family=family),
        graph.add(workflow, "TinyVAE", channels=CHANNELS[family]),
    )


def add_picture(workflow: graph.Workflow, family: str, model: list, clip: list, vae: str) -> str:
    sampler = graph.add_sampler(workflow, model, clip)
    empty = graph.add(workflow, EMPTY[family], width=128, height=128, batch_size=1)
    workflow[sampler]["inputs"].update(latent_image=[empty, 0], cfg=1.0)
    pixels = graph.add(workflow, "VAEDecode", samples=[sampler, 0], vae=[vae, 0])
    return graph.add(workflow, "SaveImage", images=[pixels, 0], filename_prefix=family)


def training(family: str, **run) -> tuple[graph.Workflow, str, tuple[str, str, str]]:
    workflow = graph.training("dadapt_demo/train", **run)
    model, clip, vae = ids = models(workflow, family)
    train = graph.node_of(workflow, "DAdaptTrain")
    workflow[train]["inputs"].update(model=[model, 0], clip=[clip, 0], vae=[vae, 0])
    graph.settings(workflow, "DAdaptLoadDataset").update(resolution=128)
    graph.settings(workflow, "DAdaptLoRAConfig").update(text_encoders=ENCODERS[family])
    graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
    del workflow[graph.loader(workflow)]
    return workflow, train, ids


@dataclass(frozen=True)
class Trained:
    saved: dict
    report: dict
    lora: dict
    metadata: dict
    untouched: np.ndarray
    by_train: np.ndarray
    by_file: np.ndarray


@pytest.fixture(scope="module", params=sorted(CHANNELS))
def trained(request, server, client) -> Trained:
    family = request.param
    workflow, train, (model, clip, vae) = training(family, duration=4, batch_size=2)
    untouched = add_picture(workflow, family, [model, 0], [clip, 0], vae)
    by_train = add_picture(workflow, family, [train, 0], [train, 1], vae)
    file = {"filename": f"of_{family}", "dtype": "fp32", "existing_file": "overwrite"}
    save = graph.add(workflow, "DAdaptSaveLoRA", lora=[train, 2], **file)
    execution = client.run(workflow).check()
    saved = results.saved(execution, save)
    again: graph.Workflow = {}
    model, clip, vae = models(again, family)
    loaded = graph.add_load_lora(again, saved["name"], [model, 0], [clip, 0])
    by_file = add_picture(again, family, [loaded, 0], [loaded, 1], vae)
    second = client.run(again).check()
    folder = results.run_folder(server.base, execution, train)
    return Trained(
        saved,
        results.report(execution, train),
        results.run_lora(folder),
        results.metadata(folder / "lora.safetensors"),
        results.picture(client, execution, untouched),
        results.picture(client, execution, by_train),
        results.picture(client, second, by_file),
    )


def test_every_key_of_the_file_loads(trained):
    assert trained.saved["keys_matched"] == trained.saved["keys_total"] > 20


def test_the_file_through_load_lora_gives_the_picture_of_trains_own_outputs(trained):
    assert results.difference(trained.by_train, trained.by_file) < 0.01
    assert results.difference(trained.by_train, trained.untouched) > 0.5


def test_diffusion_model_and_text_encoders_have_learned(trained):
    moved = {name for name in results.layers(trained.lora) if trained.lora[f"{name}.lora_up.weight"].any()}
    assert any(name.startswith(UNET) for name in moved)
    assert any(name.startswith(TEXT) for name in moved)


def test_files_say_which_family_they_are_for(trained):
    family, version = trained.metadata["modelspec.architecture"], trained.metadata["ss_base_model_version"]
    assert (family, version) in {
        ("stable-diffusion-xl-v1-base/lora", "sdxl_base_v1-0"),
        ("flux-1-dev/lora", "flux1"),
    }


@pytest.mark.parametrize("family", sorted(CHANNELS))
def test_a_training_of_another_family_can_be_cancelled_and_the_next_prompt_runs(client, family):
    workflow, _, _ = training(family, duration=1000, seed=7)
    prompt_id = client.submit(workflow)
    client.wait_for(prompt_id, lambda event: event.type == "dadapt_lora.step", timeout=300)
    client.interrupt()
    assert client.wait(prompt_id, timeout=300).status == "interrupted"
    short, _, _ = training(family, duration=1, seed=8)
    client.run(short).check()
