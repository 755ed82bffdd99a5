"""What cannot work is refused when it is queued, in words and few of them; workflows of version 0.1 go on
meaning what they meant.
"""

import json
from pathlib import Path

import pytest

SAVED = Path(__file__).with_name("workflows_of_0_1")


@pytest.fixture(scope="module")
def check(found_by):
    return found_by("queue_checks.py")


@pytest.fixture(scope="module")
def saved() -> dict[str, dict]:
    """The inputs of each of our nodes in the saved API workflow that are no links."""
    workflow = json.loads((SAVED / "api.json").read_text(encoding="utf-8"))
    return {
        node["class_type"]: {name: v for name, v in node["inputs"].items() if not isinstance(v, list)}
        for node in workflow.values()
        if node["class_type"].startswith("DAdapt")
    }


TOLD = {
    "dim 16.5": "dim: expected a whole number, got 16.5.",
    "dim true": "dim: expected a whole number, got true.",
    "train_unet 'false'": "train unet: expected true or false, got 'false'.",
    "layers 'Attention'": "layers: expected one of 'attention', 'all', got 'Attention'.",
    "a field the preset does not use": "preset 'AdamW' does not use what is set here: d cap",
    "dtype 'FP16'": "dtype: expected one of 'fp16', 'bf16', 'fp32', got 'FP16'.",
    "existing_file 'Overwrite'": "expected one of 'add a number', 'overwrite', got 'Overwrite'.",
    "lora_config 16": "lora config: expected a link from LORA_CONFIG of a LoRA Config node, got 16.",
    "dataset null": "dataset: expected a link from DATASET of a Load Dataset node, got nothing.",
    "optimizer from a LoRA Config": (
        "optimizer: expected a link from OPTIMIZER of a DAdapt Optimizer node, got a link of type"
        " 'DADAPT_LORA_CONFIG'."
    ),
    "precision 'fp8'": "precision: expected one of 'auto', 'fp32', 'bf16', 'fp16', got 'fp8'.",
    "objective from a LoRA Config": (
        "objective: expected a link from OBJECTIVE of a Training Objective node, got a link of type"
        " 'DADAPT_LORA_CONFIG'."
    ),
    "objective null": "objective: expected a link from OBJECTIVE of a Training Objective node, got nothing.",
    "least noise above most": "least noise 0.5 and most noise 0.4: expected least noise below most noise.",
    "huber_c without huber": "huber c 0.5 has no effect without loss 'huber' or 'smooth l1'.",
    "weighting 'min-snr'": "weighting: expected one of 'none', 'min-SNR', 'debiased', got 'min-snr'.",
    "an input that is not there": "This node has no input 'speed'. Remove the link to it.",
    "width 10": "width: expected at least 300, got 10.",
    "a list for a folder": "folder: expected text, got ['a'].",
}


@pytest.mark.parametrize("case", TOLD)
def test_what_cannot_work_is_refused_when_queued_in_the_words_of_the_settings(check, case):
    """ComfyUI repeats what a node says for each of its inputs: the reason is there once."""
    reasons = [text for text in check["told"][case] if TOLD[case] in text]
    others = [text for text in check["told"][case] if text not in reasons]
    assert len(reasons) == 1, check["told"][case]
    assert all(text.endswith(" - see above") for text in others), others


def test_numbers_may_be_written_as_json_and_scripts_write_them(check):
    assert [case for case, errors in check["accepted"].items() if errors] == []


def test_a_node_that_was_added_later_can_be_put_into_a_saved_workflow(check):
    assert check["with an objective"] == []


def test_settings_that_go_with_a_linked_one_are_not_judged_before_it_is_known(check):
    assert check["linked"] == []


def test_no_mutated_workflow_ends_in_an_exception_or_a_long_answer(check):
    """Each input set to lists, dicts, null, text of a million characters, other types, other case, or left
    out; queued, and where ComfyUI lets it pass, run.
    """
    found = check["fuzzed"]
    assert found["asked"] > 1000 and found["refused"] > 500
    assert found["bare"] == []
    assert found["long"] == []


def test_wrong_objects_from_links_are_refused_in_words(check):
    """As a node of another pack may give them."""
    assert len(check["links"]) == 18
    for case, said in check["links"].items():
        assert said["ours"], (case, said["text"][:300])
        assert ": expected " in said["text"] and len(said["text"]) < 300, case


def test_every_widget_but_the_folder_may_be_left_out_of_a_workflow(check, saved):
    """So that a workflow that was saved before there was a setting runs on with its default."""
    optional = {kind: sorted(inputs.keys() - {"folder"}) for kind, inputs in saved.items()}
    assert check["without defaults"] == {"errors": [], "left out": optional}


def test_a_saved_ui_workflow_still_means_what_its_api_form_means(check, saved):
    """widgets_values are positional: the n-th value is that of the n-th widget, for ever."""
    assert check["by position"] == saved


def test_a_misspelled_keyword_of_a_schema_is_an_error(check):
    assert "is_ouput_node" in check["misspelled"]["error"]
