"""The held-out curve of a run: the best step is kept and handed on, steps on the way can be saved, and a burn
is caught.
"""

import numpy as np
import pytest

from tests.host import graph, results

STEPS = 2  # each is measured
# Each step far too large: the first LoRA is the best, and the last is noise.
TOO_FAST = {"d0": 1e-2, "learning_rate": 2.0, "warmup_percent": 0.0, "growth_rate": 10.0, "burn_guard": False}


def measured_run(**run) -> graph.Workflow:
    workflow = graph.training("dadapt_demo/train", **({"duration": STEPS, "measure_every": 1} | run))
    graph.settings(workflow, "DAdaptLoadDataset").update(heldout_folder="dadapt_demo/heldout")
    graph.settings(workflow, "DAdaptOptimizer").update(TOO_FAST)
    return workflow


@pytest.mark.parametrize("hand_on", ["best", "last"])
def test_train_hands_on_what_was_chosen_and_keeps_the_other(server, client, hand_on):
    workflow = measured_run(hand_on=hand_on)
    train = graph.node_of(workflow, "DAdaptTrain")
    picture = graph.add_picture(workflow, [train, 0], [train, 1])
    execution = client.run(workflow).check()
    report, folder = results.report(execution, train), results.run_folder(server.base, execution, train)

    assert [step for step, _ in report["heldout"]] == list(range(STEPS + 1))
    best = min(report["heldout"][1:], key=lambda measured: measured[1])
    assert [report["best_step"], report["heldout_loss_best"]] == best
    assert report["best_step"] < STEPS and report["overtraining_from"] == report["best_step"]
    assert f"overtraining began at step {best[0]}" in report["text"]

    chosen = report["best_step"] if hand_on == "best" else STEPS
    assert report["output_step"] == chosen
    other_name, other = ("last", STEPS) if hand_on == "best" else ("best", report["best_step"])
    files = {"lora": chosen, other_name: other}
    assert {
        file.stem: int(results.metadata(file)["ss_steps"]) for file in folder.glob("*.safetensors")
    } == files

    shown = results.picture(client, execution, picture)
    again = graph.checkpoint()
    node = graph.add_lora_picture(
        again, (folder / "lora.safetensors").relative_to(server.base / "output" / "loras").as_posix()
    )
    assert np.array_equal(results.picture(client, client.run(again).check(), node), shown)


def test_a_best_step_that_is_the_last_is_kept_once(server, client):
    """Here because nothing else was measured."""
    workflow = measured_run(measure_every=1000)
    execution = client.run(workflow).check()
    train = graph.node_of(workflow, "DAdaptTrain")
    assert results.report(execution, train)["best_step"] == STEPS
    assert [
        file.name for file in results.run_folder(server.base, execution, train).glob("*.safetensors")
    ] == ["lora.safetensors"]


def test_a_cancel_keeps_the_best_lora_so_far_and_what_was_measured(server, client):
    """Cancelled between the first measurement, after step 3, and the second."""
    workflow = measured_run(duration=300, measure_every=3)
    others = results.run_folders(server.base)
    prompt_id = client.submit(workflow)
    client.wait_for(
        prompt_id, lambda event: event.type == "dadapt_lora.step" and event.data["step"] == 4, timeout=300
    )
    client.interrupt()
    assert client.wait(prompt_id, timeout=300).status == "interrupted"
    (folder,) = results.run_folders(server.base) - others
    report = results.run_report(folder)
    assert (report["ended"], report["best_step"]) == ("cancelled", 3)
    assert [step for step, _ in report["heldout"]] == [0, 3]
    assert results.metadata(folder / "best.safetensors")["ss_steps"] == "3"
    assert int(results.metadata(folder / "lora.safetensors")["ss_steps"]) == report["step"] >= 4


def test_loras_on_the_way_are_kept_and_loadable(server, client, folder_name):
    workflow = graph.training(folder_name, duration=5, save_every=2)
    graph.settings(workflow, "DAdaptOptimizer").update(graph.EAGER)
    execution = client.run(workflow).check()
    folder = results.run_folder(server.base, execution, graph.node_of(workflow, "DAdaptTrain"))
    kept = {file.stem: int(results.metadata(file)["ss_steps"]) for file in folder.glob("*.safetensors")}
    assert kept == {"lora": 5, "step_000002": 2, "step_000004": 4}

    names = [
        (folder / f"{stem}.safetensors").relative_to(server.base / "output" / "loras").as_posix()
        for stem in kept
    ]
    offered = client.object_info("LoraLoader")["input"]["required"]["lora_name"]
    assert set(names) <= set(offered[0] or offered[1]["options"])
    shown = []
    for name in names:
        again = graph.checkpoint()
        node = graph.add_lora_picture(again, name)
        shown.append(results.picture(client, client.run(again).check(), node))
    assert min(results.difference(a, b) for a, b in ((shown[0], shown[1]), (shown[1], shown[2]))) > 0


def test_epochs_can_be_kept_too(server, client, folder_name):
    """Two pictures, batch 1: an epoch is two steps."""
    workflow = graph.training(folder_name, duration=3, duration_unit="epochs", save_every=1)
    execution = client.run(workflow).check()
    folder = results.run_folder(server.base, execution, graph.node_of(workflow, "DAdaptTrain"))
    assert {file.stem for file in folder.glob("step_*")} == {"step_000002", "step_000004", "step_000006"}


def test_a_lora_that_burns_is_brought_back_and_the_page_hears_of_it(client, folder_name):
    """With the first d far too high. The guard measures after 10 steps."""
    workflow = graph.training(folder_name, duration=14)
    graph.settings(workflow, "DAdaptOptimizer").update(TOO_FAST | {"burn_guard": True})
    train = graph.node_of(workflow, "DAdaptTrain")
    execution = client.run(workflow).check()
    report = results.report(execution, train)
    (burn,) = report["burns"]
    assert (burn["step"], burn["back_to"]) == (10, 0)
    assert burn["loss"] > 1.2 * burn["untouched"]
    assert report["d_last"] == burn["limit"] == 5e-3
    assert "Warning: burnt at step 10" in report["text"]
    event = execution.events_of("dadapt_lora.notice")[0]
    assert event.data["step"] == 10 and "went back to step 0" in event.data["text"]
