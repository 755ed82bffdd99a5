"""What ComfyUI tells the page of the nodes: the recipe as defaults, a tooltip at every input, no surprise at
the seed.
"""

import time

import pytest

from tests.conftest import REGISTERED_FOLDER

DEFAULTS = {
    "DAdaptLoadDataset": {
        "folder": None,
        "trigger_word": "",
        "resolution": 512,
        "heldout_share": 0.0,
        "heldout_folder": "none",
        "broken_pictures": "stop",
    },
    "DAdaptLoRAConfig": {
        "dim": 16,
        "alpha": "same as dim",
        "train_unet": True,
        "train_text_encoder": True,
        "layers": "attention",
        "text_encoders": "auto",
        "conv_dim": 0,
        "include": "",
        "exclude": "",
    },
    "DAdaptOptimizer": {
        "preset": "guide 2023",
        "learning_rate": 1.0,
        "unet": 1.0,
        "text_encoder": 0.5,
        "warmup_percent": 10.0,
        "schedule": "constant",
        "decouple": True,
        "weight_decay": 0.02,
        "beta1": 0.9,
        "beta2": 0.999,
        "d0": 1e-6,
        "growth_rate": 0.0,
        "bias_correction": True,
        "implementation": "fast",
        "d_cap": 0.0,
        "freeze_d_percent": 0.0,
        "ema": 0.0,
        "stop_unet_percent": 100.0,
        "stop_text_encoder_percent": 100.0,
        "burn_guard": True,
        "adamw_rate": 5e-4,
        "s_in_bf16": False,
    },
    "DAdaptTrainingObjective": {
        "noise_levels": "family",
        "logit_mean": 0.0,
        "logit_std": 1.0,
        "shift": 0.0,
        "least_noise": 0.0,
        "most_noise": 1.0,
        "loss": "mse",
        "huber_c": 0.1,
        "weighting": "none",
        "min_snr_gamma": 5.0,
        "noise_offset": 0.0,
        "multires_iterations": 0,
        "multires_discount": 0.3,
        "input_perturbation": 0.0,
    },
    "DAdaptTrain": {
        "duration": 1000,
        "duration_unit": "steps",
        "batch_size": 1,
        "seed": 0,
        "precision": "auto",
        "measure_every": 0,
        "hand_on": "best",
        "save_every": 0,
        "checkpointing": "auto",
        "pictures_at_once": 0,
    },
    "DAdaptSaveLoRA": {"filename": "my_lora", "dtype": "fp16", "existing_file": "add a number"},
    "DAdaptTrainingCurves": {"width": 1000, "height": 700},
}
LINKS = {
    "DAdaptLoadDataset": [],
    "DAdaptLoRAConfig": [],
    "DAdaptOptimizer": [],
    "DAdaptTrainingObjective": [],
    "DAdaptTrain": [
        *("MODEL", "CLIP", "VAE", "DADAPT_DATASET", "DADAPT_LORA_CONFIG", "DADAPT_OPTIMIZER"),
        "DADAPT_OBJECTIVE",
    ],
    "DAdaptSaveLoRA": ["LORA_MODEL"],
    "DAdaptTrainingCurves": ["DADAPT_REPORT"],
}
OUTPUTS = {
    "DAdaptLoadDataset": {"DATASET": "DADAPT_DATASET", "contact_sheet": "IMAGE", "report": "STRING"},
    "DAdaptLoRAConfig": {"LORA_CONFIG": "DADAPT_LORA_CONFIG"},
    "DAdaptOptimizer": {"OPTIMIZER": "DADAPT_OPTIMIZER"},
    "DAdaptTrainingObjective": {"OBJECTIVE": "DADAPT_OBJECTIVE", "noise_levels": "IMAGE"},
    "DAdaptTrain": {
        "MODEL": "MODEL",
        "CLIP": "CLIP",
        "LORA_MODEL": "LORA_MODEL",
        "REPORT": "DADAPT_REPORT,LOSS_MAP",
    },
    "DAdaptSaveLoRA": {"lora_name": "STRING"},
    "DAdaptTrainingCurves": {"IMAGE": "IMAGE"},
}
CHOICES = {
    "DAdaptLoadDataset": {"broken_pictures": ["stop", "skip"]},
    "DAdaptLoRAConfig": {"alpha": ["same as dim"]},
    "DAdaptOptimizer": {
        "preset": ["guide 2023", "steady", "Prodigy", "Prodigy + schedule-free", "AdamW", "as published"],
        "schedule": ["constant", "cosine"],
        "implementation": ["fast", "reference"],
    },
    "DAdaptTrainingObjective": {
        "noise_levels": ["family", "uniform", "logit-normal"],
        "loss": ["mse", "huber", "smooth l1"],
        "weighting": ["none", "min-SNR", "debiased"],
    },
    "DAdaptTrain": {
        "duration_unit": ["steps", "epochs"],
        "precision": ["auto", "fp32", "bf16", "fp16"],
        "hand_on": ["best", "last"],
    },
    "DAdaptSaveLoRA": {"dtype": ["fp16", "bf16", "fp32"], "existing_file": ["add a number", "overwrite"]},
    "DAdaptTrainingCurves": {},
}
NODES = list(DEFAULTS)
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


@pytest.fixture(scope="module")
def info(client):
    return client.object_info()


def inputs(info, node):
    """{name: (type, options)}, in order."""
    declared = info[node]["input"]
    both = declared["required"] | declared.get("optional", {})  # the order of the page: required ones first
    return {name: (kind, options) for name, (kind, options) in both.items()}


def test_there_are_seven_nodes_and_no_more(info):
    assert {node for node, found in info.items() if found["category"] == "training/DAdapt LoRA"} == set(NODES)
    assert {node for node in info if node.startswith("DAdapt")} == set(NODES)


@pytest.mark.parametrize("node", NODES)
def test_defaults_are_the_recipe_in_the_promised_order(info, node):
    """Widgets are positional in saved workflows: their order is for ever."""
    widgets = {
        name: options.get("default")
        for name, (kind, options) in inputs(info, node).items()
        if kind in WIDGETS
    }
    assert list(widgets.items()) == list(DEFAULTS[node].items())


@pytest.mark.parametrize("node", NODES)
def test_links_in_and_out(info, node):
    assert [kind for kind, _ in inputs(info, node).values() if kind not in WIDGETS] == LINKS[node]
    assert dict(zip(info[node]["output_name"], info[node]["output"], strict=True)) == OUTPUTS[node]


@pytest.mark.parametrize("node", NODES)
def test_only_links_and_the_folder_must_be_in_a_workflow(info, node):
    """What has a default may be left out: workflows outlive the settings that are added to a node."""
    required = {name: kind for name, (kind, _) in info[node]["input"]["required"].items()}
    assert [name for name, kind in required.items() if kind in WIDGETS] == [
        name for name, default in DEFAULTS[node].items() if default is None
    ]


@pytest.mark.parametrize("node", NODES)
def test_choices(info, node):
    assert {name: inputs(info, node)[name][1]["options"] for name in CHOICES[node]} == CHOICES[node]


@pytest.mark.parametrize("node", NODES)
def test_every_input_has_a_tooltip_that_ends_as_a_sentence(info, node):
    for name, (_, options) in inputs(info, node).items():
        assert options.get("tooltip", "").endswith("."), name


@pytest.mark.parametrize("node", NODES)
def test_node_says_what_it_is_for(info, node):
    assert info[node]["display_name"].endswith("(DAdapt LoRA)")
    assert info[node]["description"].endswith(".")


def test_tooltips_carry_the_guides_advice(info):
    tips = {name: options["tooltip"] for name, (_, options) in inputs(info, "DAdaptOptimizer").items()}
    assert "half speed" in tips["learning_rate"]
    assert "5 to 10" in tips["warmup_percent"]
    assert "0.001 to 0.02" in tips["weight_decay"] and "0.02 to 0.04" in tips["weight_decay"]


def test_seed_is_not_changed_after_each_queue(info):
    """The page adds "randomize" to every input named seed, unless told otherwise: each queue would train
    again.
    """
    assert inputs(info, "DAdaptTrain")["seed"][1]["control_after_generate"] is False


def test_train_and_save_run_without_a_consumer(info):
    assert {node for node in NODES if info[node]["output_node"]} == {"DAdaptTrain", "DAdaptSaveLoRA"}


def test_folders_below_input_and_registered_ones_are_offered(info):
    offered = inputs(info, "DAdaptLoadDataset")["folder"][1]["options"]
    assert {"dadapt_demo/train", "dadapt_demo/heldout", REGISTERED_FOLDER} <= set(offered)
    assert inputs(info, "DAdaptLoadDataset")["heldout_folder"][1]["options"] == ["none", *offered]


def test_a_folder_made_just_now_is_offered_when_the_page_asks_again(client, folder, folder_name):
    """A press of R. A disk that is slow may be looked at only every few seconds."""
    give_up = time.monotonic() + 10
    while folder_name not in inputs(client.object_info(), "DAdaptLoadDataset")["folder"][1]["options"]:
        assert time.monotonic() < give_up, "the new folder is not offered"
