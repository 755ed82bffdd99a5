"""The blocks of a network are found by its shape: those of UNets, transformers and text encoders."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.layers.blocks import blocks_of, layers_inside
from comfyui_dadapt_lora.trainer.layers.checkpointing import checkpointed

from tests.unit.toy_networks import T5, DiT, ListsInLists, NoBlocks, UNet, pictures

BLOCKS = {
    UNet: [
        *("input_blocks.0.0", "input_blocks.1.0", "input_blocks.1.1", "input_blocks.2.0"),
        *("middle_block.0", "middle_block.1", "output_blocks.0.0", "output_blocks.0.1"),
    ],
    DiT: ["noise_refiner.0", "layers.0", "layers.1"],
    T5: ["transformer.encoder.block.0", "transformer.encoder.block.1"],
    ListsInLists: ["down_blocks.0.0", "down_blocks.0.1", "down_blocks.1.0"],
    NoBlocks: [],
}
every_network = pytest.mark.parametrize("kind", BLOCKS)


@every_network
def test_blocks_are_the_parts_of_outermost_lists_and_of_sequences_in_them(kind):
    network = kind()
    blocks = blocks_of(network)
    assert list(blocks) == BLOCKS[kind]
    assert all(network.get_submodule(name) is block for name, block in blocks.items())


@every_network
def test_every_block_is_called_in_its_turn(kind):
    """A list, or a sequence that the network takes apart, is never called: nothing of it would be
    checkpointed.
    """
    network, called = kind(), []
    for name, block in blocks_of(network).items():
        block.register_forward_hook(lambda *_, name=name: called.append(name))
    network(pictures())
    assert called == BLOCKS[kind]


@every_network
def test_checkpointing_them_changes_no_gradient(kind):
    network = kind()

    def gradients(blocks):
        network.zero_grad()
        with checkpointed(blocks):
            network(pictures()).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()])

    assert torch.equal(gradients(blocks_of(network).values()), gradients([]))


def test_layers_inside_blocks_are_all_that_can_have_a_lora():
    assert list(layers_inside(blocks_of(DiT()))) == [
        f"{block}.{layer}"
        for block in BLOCKS[DiT]
        for layer in ("attn.qkv", "mlp.0", "mlp.2", "adaLN_modulation.1")
    ]


def test_a_block_that_is_one_layer_has_no_layers_inside():
    """The first convolution of a UNet."""
    inside = layers_inside(blocks_of(UNet()))
    assert not [name for name in inside if name.startswith("input_blocks.0")]
    assert "output_blocks.0.1.conv" in inside
