"""What cannot work is refused, as a 400 or as a node's error, in words that say what was expected and what to
do; the server lives on.
"""

import pytest
import safetensors.torch
import torch

from devhost.errors import WorkflowRefused
from tests.host import graph

GOOD = "dadapt_demo/heldout"

REFUSED = {
    "alpha below dim": (
        "DAdaptLoRAConfig",
        {"alpha": 1},
        ["alpha", "expected 'same as dim' (here 16), got 1", "does not dampen"],
    ),
    "alpha above dim": (
        "DAdaptLoRAConfig",
        {"alpha": 32.0},
        ["got 32.0", "lower the learning rate at DAdapt Optimizer"],
    ),
    "alpha in words": ("DAdaptLoRAConfig", {"alpha": "half"}, ["expected 'same as dim'", "got 'half'"]),
    "dim zero": ("DAdaptLoRAConfig", {"dim": 0}, ["dim", "at least 1", "got 0"]),
    "nothing to train": (
        "DAdaptLoRAConfig",
        {"train_unet": False, "train_text_encoder": False},
        ["Nothing to train", "Switch at least one on"],
    ),
    "resolution": ("DAdaptLoadDataset", {"resolution": 100_000}, ["resolution", "2048", "100000"]),
    "resolution between the steps": (
        "DAdaptLoadDataset",
        {"resolution": 100},
        ["resolution: expected a multiple of 64, got 100", "The nearest is 128"],
    ),
    "missing folder": (
        "DAdaptLoadDataset",
        {"folder": "nowhere"},
        ["There is no picture folder 'nowhere'", "below ComfyUI's input", GOOD],
    ),
    "folder above input": (
        "DAdaptLoadDataset",
        {"folder": "../output"},
        ["There is no picture folder '../output'"],
    ),
    "folder in and out": (
        "DAdaptLoadDataset",
        {"folder": "dadapt_demo/../../output"},
        ["There is no picture folder"],
    ),
    "folder by its path": ("DAdaptLoadDataset", {"folder": "/etc"}, ["There is no picture folder '/etc'"]),
    "input itself": ("DAdaptLoadDataset", {"folder": "."}, ["There is no picture folder '.'"]),
    "no folder": ("DAdaptLoadDataset", {"folder": ""}, ["There is no picture folder ''"]),
    "missing held-out folder": (
        "DAdaptLoadDataset",
        {"heldout_folder": "../x"},
        ["There is no picture folder '../x'"],
    ),
    "held-out share": ("DAdaptLoadDataset", {"heldout_share": 0.9}, ["heldout", "0.5", "0.9"]),
    "warmup": ("DAdaptOptimizer", {"warmup_percent": 200.0}, ["warmup", "90", "200"]),
    "coupled decay": (
        "DAdaptOptimizer",
        {"decouple": False},
        ["weight decay 0.02 with decouple off", "expected decouple on, or weight decay 0"],
    ),
    "growth below 1": (
        "DAdaptOptimizer",
        {"growth_rate": 0.5},
        ["growth rate", "0 (auto) or at least 1", "got 0.5"],
    ),
    "unknown preset": (
        "DAdaptOptimizer",
        {"preset": "mine"},
        ["preset", "expected one of 'guide 2023'", "got 'mine'"],
    ),
    "unknown schedule": (
        "DAdaptOptimizer",
        {"schedule": "linear"},
        ["schedule", "'constant', 'cosine'", "got 'linear'"],
    ),
    "a field that the preset does not use": (
        "DAdaptOptimizer",
        {"preset": "AdamW", "d_cap": 0.001},
        ["preset 'AdamW' does not use what is set here: d cap (0.0 in a new node)", "Set it back"],
    ),
    "more than the reference can": (
        "DAdaptOptimizer",
        {"implementation": "reference", "freeze_d_percent": 50.0},
        ["implementation 'reference' cannot do this: freeze d percent", "'fast', which can"],
    ),
    "everything stops": (
        "DAdaptOptimizer",
        {"stop_unet_percent": 50.0, "stop_text_encoder_percent": 50.0},
        ["Nothing would train at the end of the run", "at least one trained part that stops at 100%"],
    ),
    "unknown hand on": ("DAdaptTrain", {"hand_on": "first"}, ["hand on", "'best', 'last'", "got 'first'"]),
    "duration": ("DAdaptTrain", {"duration": 0}, ["duration", "1", "0"]),
    "unknown unit": (
        "DAdaptTrain",
        {"duration_unit": "hours"},
        ["duration unit", "'steps', 'epochs'", "got 'hours'"],
    ),
    "batch": ("DAdaptTrain", {"batch_size": 1000}, ["batch_size", "64", "1000"]),
    "seed": ("DAdaptTrain", {"seed": -1}, ["seed", "0", "-1"]),
    "unknown precision": ("DAdaptTrain", {"precision": "fp8"}, ["precision", "'bf16'", "got 'fp8'"]),
}


def refusal(client, workflow) -> str:
    """The words of the 400, or of the node that failed."""
    try:
        execution = client.run(workflow, timeout=120)
    except WorkflowRefused as error:
        return str(error)
    assert execution.status == "error", execution.status
    assert not execution.events_of("dadapt_lora.step")
    return str(execution.error)


@pytest.fixture(autouse=True)
def server_lives_on(client):
    """After each refusal a good prompt runs."""
    yield
    workflow = graph.only_upstream(graph.training(GOOD), "DAdaptLoadDataset")
    graph.add(workflow, "PreviewImage", images=[graph.node_of(workflow, "DAdaptLoadDataset"), 1])
    client.run(workflow, timeout=120).check()


@pytest.mark.parametrize("case", REFUSED)
def test_setting_is_refused_in_words_when_it_is_queued(client, case):
    """Nothing is loaded and no picture is read for a workflow that cannot run."""
    node, changed, words = REFUSED[case]
    workflow = graph.training(GOOD)
    graph.settings(workflow, node).update(changed)
    with pytest.raises(WorkflowRefused) as refused:
        client.submit(workflow)
    said = str(refused.value)
    assert node in said
    for word in words:
        assert word in said


def test_held_out_twice_is_refused(client):
    workflow = graph.training(GOOD)
    graph.settings(workflow, "DAdaptLoadDataset").update(heldout_folder=GOOD, heldout_share=0.5)
    said = refusal(client, workflow)
    assert "Both a held-out folder and a held-out share" in said and "Keep one" in said


@pytest.mark.parametrize(
    ("node", "changed"), [(node, changed) for node, changed, _ in list(REFUSED.values())[:3]]
)
def test_other_alpha_is_a_400_with_the_reason(client, node, changed):
    """It never comes as far as a queue."""
    workflow = graph.training(GOOD)
    graph.settings(workflow, node).update(changed)
    with pytest.raises(WorkflowRefused, match="the estimated rate grows to cancel it"):
        client.submit(workflow)


@pytest.mark.parametrize("folder", ["nowhere", "../output", "/etc"])
def test_folder_that_is_not_there_or_not_ours_is_a_400(client, folder):
    workflow = graph.training(folder)
    with pytest.raises(WorkflowRefused, match=r"extra_model_paths\.yaml"):
        client.submit(workflow)


@pytest.mark.parametrize("alpha", [16, 16.0, "same as dim"])
def test_alpha_that_is_dim_is_accepted(client, alpha):
    workflow = graph.training(GOOD, duration=1)
    graph.settings(workflow, "DAdaptLoRAConfig")["alpha"] = alpha
    client.run(workflow).check()


@pytest.mark.parametrize("case", ["resolution between the steps", "held-out share"])
def test_settings_of_load_dataset_are_refused_when_queued(client, case):
    _, changed, words = REFUSED[case]
    workflow = graph.training(GOOD)
    graph.settings(workflow, "DAdaptLoadDataset").update(changed)
    with pytest.raises(WorkflowRefused, match=words[0]):
        client.submit(workflow)


def test_empty_folder(server, client):
    (server.base / "input" / "tests" / "empty").mkdir(parents=True, exist_ok=True)
    said = refusal(client, graph.training("tests/empty"))
    assert "The folder 'tests/empty' has no pictures" in said and ".png" in said


def test_folder_with_pictures_only_in_subfolders_of_other_names(folder, folder_name, client):
    """They are not read, and the message says how they would be."""
    (folder / "more").mkdir()
    for file in list(folder.glob("*.*")):
        file.rename(folder / "more" / file.name)
    said = refusal(client, graph.training(folder_name))
    assert "has no pictures" in said and "rename as '1_name'" in said and "more" in said


@pytest.fixture
def broken(folder):
    """A picture that was cut off in the middle, and a file that never was one."""
    whole = (folder / "red.png").read_bytes()
    (folder / "cut-off.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no picture", encoding="utf-8")


@pytest.mark.usefixtures("broken")
def test_broken_pictures_stop_the_run_and_are_named(client, folder_name):
    said = refusal(client, graph.training(folder_name))
    assert "cut-off.png" in said and "text.jpg" in said and "2 of 4 pictures" in said
    assert "Replace or remove them, or set 'broken_pictures' to 'skip'" in said


@pytest.mark.usefixtures("broken")
def test_broken_pictures_are_skipped_when_asked_and_the_report_names_them(client, folder_name):
    workflow = graph.training(folder_name, duration=1)
    graph.settings(workflow, "DAdaptLoadDataset")["broken_pictures"] = "skip"
    text = graph.add(workflow, "PreviewAny", source=[graph.node_of(workflow, "DAdaptLoadDataset"), 2])
    (report,) = client.run(workflow).check().outputs[text]["text"]
    assert "broken and skipped: 2" in report and "cut-off.png" in report and "text.jpg" in report
    assert f"{folder_name}: 2 pictures" in report


def test_folder_with_broken_pictures_only(client, folder, folder_name):
    for file in folder.glob("*.png"):
        file.write_bytes(b"")
    workflow = graph.training(folder_name)
    graph.settings(workflow, "DAdaptLoadDataset")["broken_pictures"] = "skip"
    said = refusal(client, workflow)
    assert "None of the 2 pictures" in said and "blue.png" in said


def test_caption_that_is_no_text_is_named(client, folder, folder_name):
    (folder / "red.txt").write_bytes(b"\xff\xfe\x00\xd8")
    said = refusal(client, graph.training(folder_name))
    assert "red.txt" in said and "UTF-8" in said


def write_checkpoint(server, name: str) -> str:
    """As much of a checkpoint as ComfyUI needs to recognise SD 1.5 by its UNet, and to load it: neither text
    encoder nor VAE.
    """
    shapes = {
        "input_blocks.0.0.weight": (320, 4, 3, 3),
        "input_blocks.1.0.in_layers.0.weight": (320,),
        "input_blocks.1.0.out_layers.3.weight": (320, 320, 3, 3),
        "input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "output_blocks.0.0.in_layers.0.weight": (640,),
        "output_blocks.1.0.in_layers.0.weight": (640,),
        "out.2.weight": (4, 320, 3, 3),
    }
    weights = {
        f"model.diffusion_model.{key}": torch.zeros(shape, dtype=torch.float16)
        for key, shape in shapes.items()
    }
    safetensors.torch.save_file(weights, server.base / "models" / "checkpoints" / name)
    return name


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("SD15_inpaint", ["wants a picture or a mask beside the noise (c_concat)", "draws from text alone"]),
        ("LotusD", ["makes a picture of a picture", "ordinary checkpoint"]),
    ],
)
def test_model_that_edits_pictures_is_refused(client, family, words):
    workflow = graph.training(GOOD)
    model = graph.add(workflow, "TinyModel", family=family)
    clip = graph.add(workflow, "TinyCLIP", family="SD15")
    graph.settings(workflow, "DAdaptTrain").update(model=[model, 0], clip=[clip, 0])
    said = refusal(client, workflow)
    assert [word for word in words if word not in said] == []


def test_a_text_encoder_that_the_model_does_not_have_is_refused(client):
    workflow = graph.training(GOOD)
    graph.settings(workflow, "DAdaptLoRAConfig")["text_encoders"] = "clip_g"
    said = refusal(client, workflow)
    assert "text encoders" in said and "clip_l" in said and "got 'clip_g'" in said


def test_patterns_that_leave_no_layer_are_refused_with_names_of_layers(client):
    workflow = graph.training(GOOD)
    graph.settings(workflow, "DAdaptLoRAConfig")["include"] = "attn3"
    said = refusal(client, workflow)
    assert "leave none of the 48 layers" in said and "input_blocks.1.1.proj_in" in said


def test_checkpoint_without_a_text_encoder_is_refused(server, client):
    """A file of the right family that holds the UNet alone."""
    workflow = graph.training(GOOD)
    name = write_checkpoint(server, "unet-only.safetensors")
    graph.settings(workflow, "CheckpointLoaderSimple")["ckpt_name"] = name
    said = refusal(client, workflow)
    assert "The checkpoint has no text encoder (CLIP) and no VAE" in said and "a whole checkpoint" in said


def test_checkpoint_without_vae_weights_is_refused(server, client):
    """ComfyUI gives a VAE object without a model for it, not None."""
    workflow = graph.training(GOOD)
    name = write_checkpoint(server, "without-vae.safetensors")
    without = graph.add(workflow, "CheckpointLoaderSimple", ckpt_name=name)
    graph.settings(workflow, "DAdaptTrain")["vae"] = [without, 2]
    said = refusal(client, workflow)
    assert "The checkpoint has no VAE. Connect one from Load CLIP or Load VAE" in said


def test_registered_folder_can_be_trained_on(client):
    """A folder outside of input/ that the machine's owner named in extra_model_paths.yaml."""
    client.run(graph.training("portraits", duration=1)).check()
