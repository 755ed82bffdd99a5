"""The example workflow, sent to POST /prompt as it is shipped but for its length, runs to the end and leaves
everything it promises.
"""

import re
from pathlib import Path

import pytest

from demo import results as demo_results
from demo import run_demo
from tests.host import graph, results

STEPS = 3  # another number than the browser tests run: the host would take the same training from its cache
LAYERS = 48 + 72  # of the demo model's UNet and text encoder


@pytest.fixture(scope="module")
def workflow():
    workflow = graph.example()
    graph.settings(workflow, "DAdaptTrain")["duration"] = STEPS
    for sampler in graph.nodes_of(workflow, "KSampler"):
        workflow[sampler]["inputs"]["steps"] = 2
    return workflow


@pytest.fixture(scope="module")
def execution(client, workflow):
    return client.run(workflow).check()


@pytest.fixture(scope="module")
def train(workflow):
    return graph.node_of(workflow, "DAdaptTrain")


@pytest.fixture(scope="module")
def run_folder(server, execution, train):
    return results.run_folder(server.base, execution, train)


@pytest.fixture(scope="module")
def saved(workflow, execution):
    return results.saved(execution, graph.node_of(workflow, "DAdaptSaveLoRA"))


@pytest.fixture(scope="module")
def metadata(server, saved):
    return results.metadata(server.base / "output" / saved["file"])


def test_pictures_come_out_without_and_with_the_lora(client, workflow, execution):
    without_lora, with_lora = (
        results.picture(client, execution, node) for node in graph.nodes_of(workflow, "SaveImage")
    )
    assert without_lora.shape == with_lora.shape == (128, 128, 3)
    assert without_lora.std() > 1


def test_lora_file_is_there_and_every_layer_loads_in_comfyui(server, saved):
    assert (server.base / "output" / saved["file"]).is_file()
    assert saved["keys_matched"] == saved["keys_total"] == LAYERS


def test_report_has_what_programs_read(execution, train):
    report = results.report(execution, train)
    assert report["steps"] == STEPS
    assert report["seconds_training"] > 0
    assert 0 < report["d_first"] <= report["d_last"]
    assert report["heldout_loss_before"] > 0 and report["heldout_loss_after"] > 0
    assert report["update_ratio"] > 0
    assert not Path(report["run_folder"]).is_absolute()
    assert "SD 1.5" in report["text"] and "held-out loss" in report["text"]


def test_the_demo_finds_what_it_asks_the_report_for(execution, train, run_folder, saved):
    report = results.report(execution, train)
    assert set(run_demo.OF_TRAIN) <= report.keys() and set(run_demo.OF_SAVE) <= saved.keys()
    summary = {name: report[name] for name in run_demo.OF_TRAIN}
    assert demo_results.curves(run_folder / "steps.jsonl", summary).size == demo_results.CURVES_SIZE


def test_run_folder_has_one_record_a_step(run_folder):
    records = results.steps(run_folder)
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    assert all(record["loss"] > 0 and record["d"] > 0 and record["gradient_norm"] > 0 for record in records)
    assert records[0]["seconds"] < records[1]["seconds"]
    assert all(100 < record["peak_memory_mb"] < 100_000 for record in records)


def test_curves_are_drawn_in_their_size(client, workflow, execution):
    (node,) = graph.nodes_of(workflow, "PreviewImage")
    curves = results.picture(client, execution, node)
    size = graph.settings(workflow, "DAdaptTrainingCurves")
    assert curves.shape == (size["height"], size["width"], 3)
    assert (curves < 255).any()


def test_text_encoder_runs_at_half_the_unets_rate(workflow, run_folder):
    recipe = graph.settings(workflow, "DAdaptOptimizer")
    assert (recipe["unet"], recipe["text_encoder"]) == (1.0, 0.5)
    for record in results.steps(run_folder):
        assert record["dlr"]["clip_l"] == pytest.approx(0.5 * record["dlr"]["unet"])


def test_run_folder_has_the_lora_and_the_report(run_folder, execution, train):
    assert len(results.layers(results.run_lora(run_folder))) == LAYERS
    report = results.run_report(run_folder)
    assert report["ended"] == "finished"
    assert report["d_last"] == results.report(execution, train)["d_last"]


def test_metadata_says_how_the_lora_was_made(metadata, saved):
    assert all(isinstance(value, str) for value in metadata.values())
    assert (metadata["ss_network_dim"], float(metadata["ss_network_alpha"])) == ("16", 16.0)
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["ss_sd_model_name"] == "emoji-sd15.safetensors"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert (
        metadata["modelspec.title"] == Path(saved["file"]).stem
    )  # fluent3d, or with a number where another test has saved one
    assert int(metadata["ss_steps"]) == STEPS


def test_metadata_names_no_place_on_this_machine(server, metadata, run_folder):
    absolute = re.compile(r"(^|[\s\"'(:=,])(/\w|[A-Za-z]:[\\/]|\\\\)")
    for found in (metadata, results.metadata(run_folder / "lora.safetensors")):
        for key, value in found.items():
            assert not absolute.search(value), f"{key}: {value}"
            assert server.base.name not in value, f"{key}: {value}"


def test_page_hears_of_every_step(execution, train):
    events = [event.data for event in execution.events_of("dadapt_lora.step")]
    assert [event["step"] for event in events] == list(range(1, STEPS + 1))
    for event in events:
        assert event["node"] == train and event["steps"] == STEPS
        assert {
            "epoch",
            "loss",
            "loss_average",
            "d",
            "dlr",
            "seconds_left",
        } < event.keys()
    assert events[-1]["seconds_left"] == 0


def test_page_hears_of_what_goes_on_beside_the_steps(execution, workflow, train):
    events = [event.data for event in execution.events_of("dadapt_lora.phase")]
    dataset = graph.node_of(workflow, "DAdaptLoadDataset")
    texts = {node: [event["text"] for event in events if event["node"] == node] for node in (dataset, train)}
    assert "reading pictures 8/8" in texts[dataset]
    assert "encoding pictures 8/8" in texts[train] and "measuring the held-out loss" in texts[train]
    assert len(events) == sum(map(len, texts.values()))


def test_hosts_own_progress_bar_moves_on_the_train_node(execution, train):
    bar = [event.data for event in execution.events_of("progress") if event.data["node"] == train]
    assert (STEPS, STEPS) in {(data["value"], data["max"]) for data in bar}
    states = [
        event.data["nodes"][train]
        for event in execution.events_of("progress_state")
        if train in event.data["nodes"]
    ]
    assert any(state["state"] == "running" and state["max"] == STEPS for state in states)
    assert states[-1]["state"] == "finished"


def test_contact_sheet_shows_on_the_dataset_node(client, workflow, execution):
    sheet = results.picture(client, execution, graph.node_of(workflow, "DAdaptLoadDataset"))
    assert min(sheet.shape[:2]) >= 128 and sheet.std() > 1
