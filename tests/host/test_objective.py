"""Training Objective through the server: it changes what is trained, and Train says what was used."""

import json

import pytest
import safetensors.torch
import torch

from devhost.errors import WorkflowRefused
from tests.host import graph, results


def with_objective(folder, **chosen):
    """A short training with a Training Objective node; its id."""
    workflow = graph.training(folder)
    graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
    node = graph.add(workflow, "DAdaptTrainingObjective", **chosen)
    graph.settings(workflow, "DAdaptTrain")["objective"] = [node, 0]
    return workflow, node


@pytest.fixture
def lora_of(server, client):
    """The LoRA, report and metadata of a workflow's training."""

    def lora_of(workflow):
        execution = client.run(workflow).check()
        train = graph.node_of(workflow, "DAdaptTrain")
        folder = results.run_folder(server.base, execution, train)
        metadata = results.metadata(folder / "lora.safetensors")
        return results.run_lora(folder), results.report(execution, train)["text"], metadata

    return lora_of


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_node_as_it_is_new_trains_what_no_node_trains_and_min_snr_something_else(lora_of, folder_name):
    without = graph.training(folder_name)
    graph.settings(without, "DAdaptOptimizer").update(graph.EAGER)
    plain, report, metadata = lora_of(without)
    assert "the model predicts noise (eps)" in report
    assert "noise levels: uniform (the custom of kohya's sd-scripts)" in report
    assert metadata["ss_loss_type"] == "l2" and "ss_min_snr_gamma" not in metadata

    assert same(lora_of(with_objective(folder_name)[0])[0], plain)

    # at most noise levels the weight of gamma 5 is 1: the few steps here may well be all of those
    weighted, _ = with_objective(folder_name, weighting="min-SNR", min_snr_gamma=0.1)
    changed, report, metadata = lora_of(weighted)
    assert not same(changed, plain)
    assert "weights min-SNR, gamma 0.1; held-out pictures are measured by plain mean squared error" in report
    assert metadata["ss_min_snr_gamma"] == "0.1"
    assert json.loads(metadata["ss_dadapt_objective"])["weighting"] == {"kind": "min-SNR", "gamma": 0.1}


def test_everything_at_once_trains_and_is_said(lora_of, folder_name):
    lora, report, metadata = lora_of(
        with_objective(
            folder_name,
            noise_levels="logit-normal",
            shift=3.0,
            least_noise=0.1,
            loss="huber",
            weighting="debiased",
            noise_offset=0.05,
            multires_iterations=6,
            input_perturbation=0.1,
        )[0]
    )
    assert all(tensor.isfinite().all() for tensor in lora.values())
    assert "noise levels: logit-normal, shift 3, only from 0.1 to 1 (chosen at Training Objective)" in report
    assert "loss huber, c 0.1, weights debiased, noise offset 0.05, multires noise 6 x 0.3" in report
    assert (metadata["ss_loss_type"], metadata["ss_debiased_estimation"]) == ("huber", "True")
    assert (metadata["ss_noise_offset"], metadata["ss_ip_noise_gamma"]) == ("0.05", "0.1")


def test_the_node_shows_its_noise_levels_as_a_picture(client, folder_name):
    workflow, node = with_objective(folder_name, noise_levels="logit-normal")
    saved = graph.add(workflow, "SaveImage", images=[node, 1], filename_prefix="test")
    execution = client.run(graph.only_upstream(workflow, "SaveImage")).check()
    assert execution.images(node)
    picture = results.picture(client, execution, saved)
    assert picture.shape == (302, 880, 3)
    assert picture.std() > 5


@pytest.mark.parametrize(
    "chosen, words",
    [
        ({"least_noise": 0.7, "most_noise": 0.2}, "least noise 0.7 and most noise 0.2: expected least noise"),
        ({"min_snr_gamma": 1.0}, "min snr gamma 1 has no effect without weighting 'min-SNR'"),
        ({"loss": "L2"}, "loss: expected one of 'mse', 'huber', 'smooth l1', got 'L2'"),
        ({"noise_offset": 2.0}, "noise offset: expected at most 1.0, got 2.0"),
    ],
)
def test_what_contradicts_itself_is_refused_when_it_is_queued(client, folder_name, chosen, words):
    workflow, _ = with_objective(folder_name, **chosen)
    with pytest.raises(WorkflowRefused) as refused:
        client.submit(workflow)
    assert words in str(refused.value)


def test_train_takes_an_objective_from_no_other_node(client, folder_name):
    workflow, _ = with_objective(folder_name)
    graph.settings(workflow, "DAdaptTrain")["objective"] = [graph.node_of(workflow, "DAdaptOptimizer"), 0]
    with pytest.raises(WorkflowRefused, match="a link from OBJECTIVE of a Training Objective node"):
        client.submit(workflow)


def test_a_range_without_noise_levels_is_refused_before_a_step(client, folder_name):
    workflow, _ = with_objective(folder_name, noise_levels="logit-normal", logit_std=0.05, least_noise=0.9)
    execution = client.run(workflow)
    assert execution.status == "error"
    assert "next to nothing of the noise levels" in str(execution.error)
    assert not execution.events_of("dadapt_lora.step")


def test_a_checkpoint_whose_file_says_v_is_refused_before_a_step(server, client, folder_name):
    """ComfyUI asks that of SDXL's only, and takes this one for one of noise."""
    workflow = graph.training(folder_name)
    loader = graph.settings(workflow, "CheckpointLoaderSimple")
    checkpoints = server.base / "models" / "checkpoints"
    weights = safetensors.torch.load_file(checkpoints / loader["ckpt_name"])
    safetensors.torch.save_file(weights | {"v_pred": torch.zeros(0)}, checkpoints / "of_v.safetensors")
    loader["ckpt_name"] = "of_v.safetensors"
    execution = client.run(workflow)
    assert execution.status == "error"
    said = str(execution.error)
    assert "file says that it predicts v" in said and "ModelSamplingDiscrete" in said
    assert not execution.events_of("dadapt_lora.step")


def test_a_node_that_changes_what_is_predicted_is_followed_and_told(lora_of, folder_name):
    workflow = graph.training(folder_name)
    sampling = {"sampling": "v_prediction", "zsnr": True}
    node = graph.add(workflow, "ModelSamplingDiscrete", model=[graph.loader(workflow), 0], **sampling)
    graph.settings(workflow, "DAdaptTrain")["model"] = [node, 0]
    lora, report, metadata = lora_of(workflow)
    assert "a node before Train makes the model predict" in report
    assert metadata["modelspec.prediction_type"] == "v"
    assert all(tensor.isfinite().all() for tensor in lora.values())


def test_min_snr_is_refused_for_a_flow(client, folder_name):
    workflow, _ = with_objective(folder_name, weighting="min-SNR")
    model = graph.add(workflow, "TinyModel", family="Flux")
    clip = graph.add(workflow, "TinyCLIP", family="Flux")
    graph.settings(workflow, "DAdaptTrain").update(model=[model, 0], clip=[clip, 0])
    execution = client.run(workflow)
    assert execution.status == "error"
    assert "means nothing for this model, which predicts a flow" in str(execution.error)
