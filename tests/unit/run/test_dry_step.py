"""A small step before the run finds what cannot train, tells what it found, and changes nothing."""

import gc
import weakref

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.adapters.lora import new_adapter
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.errors import ModelError
from comfyui_dadapt_lora.trainer.parts import UNET
from comfyui_dadapt_lora.trainer.run.activations import AT_THE_PEAK, PerPicture, SavedBytes, bytes_of_pass
from comfyui_dadapt_lora.trainer.run.dry_step import notices, try_step
from torch import nn

from tests.unit.toy import CHANNELS, ToyNetwork, adapters_of, training, weights, work_of


def tried(network, adapters=None, **settings):
    adapters = adapters or adapters_of(network)
    with attached(adapters):
        return try_step(work_of(network, adapters, **settings), [network.unet_layer], "Toy")


def picture(height, width, caption="red"):
    return LatentPicture(torch.ones(CHANNELS, height, width), caption)


class Watched(ToyNetwork):
    """Notes the sizes of what it is given, and takes none below `least` pixels."""

    def __init__(self, least=0):
        super().__init__()
        self.least, self.seen = least, []

    def predict(self, noised, levels, conditioning):
        self.seen.append(tuple(noised.shape))
        if noised[0, 0].numel() < self.least:
            raise ZeroDivisionError
        return super().predict(noised, levels, conditioning)


# nothing is left behind -------------------------------------------------------------------------------------


def test_weights_and_gradients_are_as_they_were():
    network = ToyNetwork()
    adapters = adapters_of(network)
    adapters[0].up.data.normal_(generator=torch.Generator().manual_seed(3))  # of a LoRA that goes on
    before, places = weights(adapters), [one.up.data_ptr() for one in adapters]
    tried(network, adapters)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(adapters), strict=True))
    assert places == [one.up.data_ptr() for one in adapters]
    assert all(p.grad is None for one in adapters for p in (one.down, one.up))


def test_a_run_after_a_dry_step_gives_the_same_lora_bit_for_bit():
    """It draws from no stream that anything else draws from, nor from torch's own."""
    ends, drawn = [], []
    for dry in (True, False):
        network = ToyNetwork()
        adapters = adapters_of(network)
        torch.manual_seed(0)
        if dry:
            tried(network, adapters)
        with attached(adapters):
            training(network, adapters, steps=20).run()
        ends.append(weights(adapters))
        drawn.append(torch.rand(3))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert torch.equal(*drawn)


def test_no_tensor_of_it_is_alive_afterwards():
    network, freed = ToyNetwork(), []
    made = []
    predict = network.predict

    def noting(noised, levels, conditioning):
        output = predict(noised, levels, conditioning)
        made.append(weakref.ref(output))
        return output

    network.predict = noting
    tried(network, free_memory=lambda: freed.append(True))
    assert made and all(ref() is None for ref in made) and freed == [True]


# what cannot train is refused -------------------------------------------------------------------------------


class WritesOver(ToyNetwork):
    """Its output layer's input, which a LoRA there has saved, is written over afterwards."""

    def predict(self, noised, levels, conditioning):
        hidden = noised * 1.0
        output = self.unet_layer(hidden)
        hidden += 1
        return output + hidden + self.mix(conditioning)[:, :, None, None]


class NoFormula(ToyNetwork):
    """Uses an operation that says that it has no derivative."""

    def predict(self, noised, levels, conditioning):
        output = super().predict(noised, levels, conditioning)
        return output + torch.nextafter(output, output + 1)


class Detached(ToyNetwork):
    def predict(self, noised, levels, conditioning):
        return super().predict(noised, levels, conditioning).detach()


class WritesOut(ToyNetwork):
    def predict(self, noised, levels, conditioning):
        output = super().predict(noised, levels, conditioning)
        return torch.add(output, 1, out=torch.empty_like(output))


FUSED = torch.library.Library("dadapt_lora_test", "DEF")
FUSED.define("fused(Tensor x) -> Tensor")
FUSED.impl("fused", lambda x: x.clone(), "CPU")


class NoKernel(ToyNetwork):
    """Uses an operation of somebody's own without a gradient, of which PyTorch only warns."""

    def predict(self, noised, levels, conditioning):
        output = super().predict(noised, levels, conditioning)
        return output + torch.ops.dadapt_lora_test.fused(output)


@pytest.mark.parametrize(
    "network, why",
    [
        (WritesOver, "writes over numbers that a backward pass needs"),
        (NoFormula, "computes something that has no gradient"),
        (Detached, "computes something that has no gradient"),
        (WritesOut, "computes something that has no gradient"),
        (NoKernel, "computes something that has no gradient"),
    ],
)
def test_a_network_without_right_gradients_is_refused_in_words(network, why):
    with pytest.raises(ModelError) as refused:
        tried(network())
    said = str(refused.value)
    assert said.startswith("Toy cannot be trained by this version of the pack: its network") and why in said
    assert "Nothing was trained. PyTorch says: " in said and "\n" not in said


def test_other_errors_are_left_alone():
    class Broken(ToyNetwork):
        def predict(self, noised, levels, conditioning):
            raise RuntimeError("the GPU fell off the bus")

    with pytest.raises(RuntimeError, match="fell off the bus"):
        tried(Broken())


# what it looks at -------------------------------------------------------------------------------------------


def test_the_smallest_piece_of_a_picture_is_tried_first():
    """The first pass is the guard, of the small size; then both sizes are measured."""
    network = Watched()
    tried(network, data=[picture(64, 48), picture(32, 32)])
    assert network.seen == [(1, CHANNELS, *size) for size in [(16, 16), (16, 16), (32, 32)]]


def test_a_network_that_takes_no_small_pictures_is_tried_with_larger_ones():
    network = Watched(least=32 * 48)
    tried(network, data=[picture(128, 128)])
    assert [size[2:] for size in network.seen[-3:]] == [(32, 64), (32, 64), (64, 64)]


def test_in_the_end_a_real_size_is_tried():
    """The smallest one: here that of a network that takes only whole pictures."""
    network = Watched(least=80 * 80)
    tried(network, data=[picture(80, 96), picture(80, 80)])
    assert [size[2:] for size in network.seen[-2:]] == [(80, 80), (80, 80)]
    with pytest.raises(ZeroDivisionError):
        tried(Watched(least=10_000), data=[picture(80, 80)])


def test_the_longest_caption_is_tried():
    """What it takes is a part of the estimate."""
    captions = []

    class Listening(ToyNetwork):
        def encode(self, pictures):
            captions.extend(one.caption for one in pictures)
            return super().encode(pictures)

    tried(Listening(), data=[picture(32, 32, "red"), picture(16, 16, "blue")])
    assert set(captions) == {"blue"}


def test_a_network_that_runs_out_of_memory_is_not_refused():
    """It is tried without checkpointing, which the run may have."""

    class Full(ToyNetwork):
        def predict(self, noised, levels, conditioning):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    found = tried(Full())
    assert found.activations is None and list(notices(found, work_of(ToyNetwork(), []))) == []


# what it finds ----------------------------------------------------------------------------------------------


class WithUnused(ToyNetwork):
    """Has layers that it never uses: some of the network, one of a text encoder."""

    def __init__(self):
        super().__init__()
        self.unused = [nn.Linear(3, 3) for _ in range(5)]

    def adapters(self):
        generator = torch.Generator().manual_seed(0)
        parts = [UNET] * 4 + ["clip_l"]
        return adapters_of(self) + [
            new_adapter(f"{part}_unused_{number}", part, layer, 2, generator, self.device)
            for number, (part, layer) in enumerate(zip(parts, self.unused, strict=True))
        ]


def test_layers_without_a_gradient_are_counted_and_named():
    network = WithUnused()
    adapters = network.adapters()
    found = tried(network, adapters)
    of_unet, of_text = notices(found, work_of(network, adapters))
    assert of_unet == (
        "4 of 5 layers of the UNet get no gradient, and stay zero in the LoRA, where they change nothing:"
        " unet_unused_0, unet_unused_1, unet_unused_2 and 1 more"
    )
    assert of_text == (
        "1 of 2 layers of the text encoder clip_l take no part in this model, and stay zero in the LoRA"
    )


def test_layers_of_zeros_are_found_to_train_though_nothing_reaches_their_downs_yet():
    network = ToyNetwork()
    adapters = adapters_of(network)
    found = tried(network, adapters)
    assert found.finite and list(notices(found, work_of(network, adapters))) == []


def test_numbers_that_are_not_finite_are_told():
    class Overflows(ToyNetwork):
        def predict(self, noised, levels, conditioning):
            return super().predict(noised, levels, conditioning) * float("inf")

    network = Overflows()
    adapters = adapters_of(network)
    (said,) = notices(tried(network, adapters), work_of(network, adapters))
    assert "not finite" in said and "computed in fp32" in said


# what memory it takes ---------------------------------------------------------------------------------------


class Blocks(nn.Module):
    """Three blocks, each of which saves what its two functions need: their own outputs."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Sigmoid(), nn.Tanh()) for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x.exp()


def test_saved_bytes_are_those_of_blocks_or_of_their_inputs_and_one_block():
    """1000 numbers each: 6 of blocks and 1 outside; or 3 inputs, 1 outside, and 2 of one block."""
    network = Blocks()
    saved = SavedBytes()
    with saved.counted(network.blocks):
        network(torch.ones(1000, requires_grad=True))
    assert saved.plain == 7 * 4000
    # the first block's input is x, those of the others are what the blocks before them have saved
    assert saved.checkpointed == (3 + 1 + 2) * 4000


def test_weights_are_not_counted():
    layer = nn.Linear(50, 50)
    saved = SavedBytes()
    with saved.counted([]):
        layer(torch.ones(7, 50, requires_grad=True)) @ layer.weight.t()
    assert saved.plain == 7 * 50 * 4 + 7 * 50 * 4  # both inputs


def test_what_a_picture_takes_is_measured_per_pixel():
    """The toy's convolution saves noise and LoRA, both of which grow with the picture, and nothing else
    does.
    """
    found = tried(ToyNetwork(), data=[picture(64, 64)])
    plain = found.activations.plain
    assert plain.per_pixel > 4 * CHANNELS * AT_THE_PEAK[0]
    assert plain.bytes(64 * 64) == pytest.approx(64 * 64 * plain.per_pixel, rel=0.01)


def test_a_captions_share_does_not_grow_with_the_picture():
    class LongCaption(ToyNetwork):
        def encode(self, pictures):
            return super().encode(pictures) + self.text_layer(torch.ones(100_000, 8).exp()).sum() * 0

    plain, longer = (
        tried(kind(), data=[picture(64, 64)]).activations.plain for kind in (ToyNetwork, LongCaption)
    )
    assert longer.per_pixel == pytest.approx(plain.per_pixel)
    assert longer.fixed - plain.fixed > 100_000 * 4 * 4


def test_a_measured_line():
    assert PerPicture(2.0, 100.0).bytes(50) == 200


def test_a_gpu_tells_the_peak_of_a_whole_pass_above_what_stays(monkeypatch):
    """Without checkpointing first. No GPU is needed for this: what it would say is made up."""
    passes, peaks = [], [700, 300]
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: passes.append([]))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks.pop(0))
    block = nn.Linear(3, 3)

    def forward():
        passes[-1].append("checkpoint" in block.forward.__qualname__)
        return block(torch.ones(2, 3)).sum()

    assert bytes_of_pass(torch.device("cuda"), [block], forward) == (600, 200)
    assert passes == [[False], [True]] and block.weight.grad is not None


def test_what_was_counted_leaves_memory():
    """Also the outputs of operations that save their own, such as softmax."""
    x = torch.randn(4, 4, requires_grad=True)
    saved = SavedBytes()
    with saved.counted([]):
        hidden = x.softmax(-1)
        alive = weakref.ref(hidden)
        (hidden * hidden).sum()
        del hidden
    gc.collect()
    assert saved.plain > 0
    assert alive() is None
