"""What a person has to know of their pictures and their recipe is told while there is time to stop, and again
in the report.
"""

from tests.host import graph, results


def test_missing_captions_and_left_out_folders_are_told_before_the_first_step(
    server, client, folder, folder_name
):
    (folder / "blue.txt").unlink()
    (folder / "raw").mkdir()
    workflow = graph.training(folder_name)
    execution = client.run(workflow).check()
    told = [event.type for event in execution.events_of("dadapt_lora.notice", "dadapt_lora.step")]
    assert told[:3] == ["dadapt_lora.notice", "dadapt_lora.notice", "dadapt_lora.step"]
    texts = [event.data["text"] for event in execution.events_of("dadapt_lora.notice")[:2]]
    assert texts == [
        "without a caption: 1, trained with no words: blue.png",
        "subfolders not read: raw (rename as '1_name', directly below the folder, to include)",
    ]
    report = results.report(execution, graph.node_of(workflow, "DAdaptTrain"))["text"]
    assert all(f"Warning: {text}" in report for text in texts)


def test_the_report_says_what_the_recipe_came_to_and_what_it_cannot_know(client, folder_name):
    """Two pictures of one size share a step; nothing was held out."""
    workflow = graph.training(folder_name, batch_size=4)
    graph.settings(workflow, "DAdaptOptimizer").update(preset="steady")
    execution = client.run(workflow).check()
    report = results.report(execution, graph.node_of(workflow, "DAdaptTrain"))["text"]
    assert "recipe 'steady': cosine, warmup 10%" in report
    assert "2.0 pictures per step on average" in report
    assert "no pictures were held out" in report
