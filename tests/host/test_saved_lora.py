"""A saved LoRA means the same to ComfyUI's own Load LoRA as what Train outputs."""

import pytest
import safetensors.torch
import torch

from devhost.errors import WorkflowRefused
from tests.host import graph, results
from tests.host.conftest import DTYPES

# Mean absolute difference of pixels, in 0..255, that a file of this dtype may make. Seen: 0, 0.0007 and
# 0.005; the LoRA itself makes 10.
TOLERANCE = {"fp32": 0.001, "fp16": 0.02, "bf16": 0.1}


@pytest.fixture(scope="module")
def reloaded(client, trained):
    """Pictures through Load LoRA, by the dtype of the file."""
    workflow = graph.checkpoint()
    nodes = {dtype: graph.add_lora_picture(workflow, trained.loras[dtype]) for dtype in DTYPES}
    execution = client.run(workflow).check()
    return {dtype: results.picture(client, execution, node) for dtype, node in nodes.items()}


def test_load_lora_lists_the_files_at_once(client, trained):
    offered = client.object_info("LoraLoader")["input"]["required"]["lora_name"][0]
    assert set(trained.loras.values()) <= set(offered)


@pytest.mark.parametrize("dtype", DTYPES)
def test_load_lora_gives_the_picture_of_trains_own_outputs(trained, reloaded, dtype):
    """Same prompt and seed; the LoRA itself changes the picture by at least twenty times the largest
    tolerance.
    """
    assert results.difference(trained.with_lora, reloaded[dtype]) <= TOLERANCE[dtype]
    assert results.difference(trained.with_lora, trained.without_lora) > 20 * max(TOLERANCE.values())


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_file_holds_what_was_trained_in_the_chosen_dtype(trained, dtype, torch_dtype):
    kept, file = results.run_lora(trained.run_folder), safetensors.torch.load_file(trained.files[dtype])
    assert file.keys() == kept.keys()
    for name in kept:  # alpha is a number, and stays the one that it is
        assert torch.equal(file[name], kept[name] if name.endswith(".alpha") else kept[name].to(torch_dtype))


def test_layers_have_the_names_of_sd_scripts_and_alpha_is_dim(trained):
    tensors = results.run_lora(trained.run_folder)
    names = results.layers(tensors)
    assert {
        f"{name}.{end}" for name in names for end in ("lora_down.weight", "lora_up.weight", "alpha")
    } == tensors.keys()
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q" in names
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj" in names
    for name in names:
        assert tensors[f"{name}.alpha"] == tensors[f"{name}.lora_down.weight"].shape[0] == 16


def save(trained, filename: str, existing_file: str) -> tuple[graph.Workflow, str]:
    """The training again, which is cached, with one Save LoRA."""
    workflow = graph.only_upstream(trained.workflow, "DAdaptTrain")
    link = [trained.train, 2]
    node = graph.add(
        workflow, "DAdaptSaveLoRA", lora=link, filename=filename, dtype="fp16", existing_file=existing_file
    )
    return workflow, node


@pytest.mark.parametrize(
    ("existing_file", "name"), [("add a number", "styles/taken_2"), ("overwrite", "styles/taken")]
)
def test_name_that_is_taken(server, client, trained, existing_file, name):
    """`add a number` leaves the older file alone; `overwrite` replaces it."""
    older = server.base / "output" / "loras" / "styles" / "taken.safetensors"
    older.parent.mkdir(exist_ok=True)
    older.write_bytes(b"older")
    (older.parent / "taken_2.safetensors").unlink(missing_ok=True)
    workflow, node = save(trained, "styles/taken", existing_file)
    found = results.saved(client.run(workflow).check(), node)
    assert found["file"] == f"loras/{name}.safetensors"
    assert (older.read_bytes() == b"older") == (existing_file == "add a number")
    assert results.metadata(server.base / "output" / found["file"])["modelspec.title"] == name.split("/")[1]


HOSTILE = [
    *("../escaped", "styles/../../escaped", "  ", ".safetensors", "..", "/escaped", "C:/escaped"),
    *("styles\\escaped", "esc\0aped", "\ud800", "NUL", "x" * 240, "link_out/made/escaped"),
    "../../custom_nodes/made/../../output/loras/escaped",
]


@pytest.fixture
def link_out(server, tmp_path):
    """A link in the LoRA folder that leads out of it."""
    link = server.base / "output" / "loras" / "link_out"
    link.symlink_to(tmp_path, target_is_directory=True)
    yield tmp_path
    link.unlink()


@pytest.mark.parametrize("filename", HOSTILE, ids=ascii)
def test_hostile_name_is_refused_when_it_is_queued_and_nothing_is_made(
    server, client, trained, link_out, filename
):
    before = everything(server.base)
    workflow, node = save(trained, filename, "add a number")
    with pytest.raises(WorkflowRefused, match="filename: ") as refused:
        client.run(workflow)
    assert list(refused.value.node_errors) == [node]
    assert everything(server.base) == before
    assert list(link_out.iterdir()) == []


def everything(base) -> set:
    """All files and folders but those of runs: the training itself is allowed, and stopped by the client."""
    return {path for path in base.rglob("*") if "dadapt_runs" not in path.parts}


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("dtype", "FP16", "dtype: expected one of 'fp16', 'bf16', 'fp32', got 'FP16'"),
        ("existing_file", "Overwrite", "existing file: expected one of 'add a number', 'overwrite', got"),
    ],
)
def test_what_is_no_choice_is_refused_when_it_is_queued(client, trained, setting, value, told):
    workflow, node = save(trained, "choice", "add a number")
    workflow[node]["inputs"][setting] = value
    with pytest.raises(WorkflowRefused, match=told):
        client.run(workflow)
