"""The LoRA's mathematics."""

import weakref
from copy import deepcopy

import pytest
import torch
from comfyui_dadapt_lora.benchmarks.optimizer import CountOperations
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.adapters.lora import init_lora, new_adapter
from comfyui_dadapt_lora.trainer.errors import ModelError
from torch import nn

CPU = torch.device("cpu")


def modules():
    torch.manual_seed(0)
    return [
        (nn.Linear(6, 5), torch.randn(3, 7, 6)),
        (nn.Conv2d(6, 5, 1), torch.randn(2, 6, 4, 4)),
        (nn.Linear(6, 5, bias=False), torch.randn(6)),
        (nn.Conv2d(6, 5, 3, stride=2, padding=1), torch.randn(2, 6, 8, 8)),
    ]


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)]
)
@pytest.mark.parametrize("module, x", modules())
def test_hook_computes_what_the_merged_weight_computes(module, x, dtype, tolerance):
    """This holds for every dtype that the module may be in; the LoRA itself stays fp32."""
    module = module.to(dtype)
    x = x.to(dtype)
    adapter = new_adapter("a", "unet", module, 3, torch.Generator().manual_seed(0), CPU)
    adapter.up.data.normal_(generator=torch.Generator().manual_seed(1))
    with attached([adapter]):
        hooked = module(x)
    plain = module(x)
    merged = deepcopy(module).float()
    merged.weight.data += (adapter.up.flatten(1) @ adapter.down.flatten(1)).reshape(module.weight.shape)
    expected = merged(x.float())
    assert hooked.dtype == dtype
    assert torch.allclose(hooked.float(), expected, atol=tolerance * expected.abs().max().item())
    assert not torch.allclose(plain.float(), expected, atol=10 * tolerance * expected.abs().max().item())


def test_a_new_adapter_changes_nothing():
    module = nn.Linear(6, 5)
    x = torch.randn(2, 6)
    adapter = new_adapter("a", "unet", module, 3, torch.Generator().manual_seed(0), CPU)
    with attached([adapter]):
        hooked = module(x)
    assert torch.equal(hooked, module(x))


def test_no_base_weight_gets_a_gradient_and_the_state_dict_is_the_modules_own():
    module = nn.Linear(6, 5).requires_grad_(False)
    names = list(module.state_dict())
    adapter = new_adapter("a", "unet", module, 3, torch.Generator().manual_seed(0), CPU)
    with attached([adapter]):
        module(torch.randn(2, 6)).square().sum().backward()
        assert list(module.state_dict()) == names
    assert module.weight.grad is None
    assert adapter.up.grad.abs().sum() > 0


def test_hooks_are_gone_after_an_error():
    module = nn.Linear(6, 5)
    adapter = new_adapter("a", "unet", module, 3, torch.Generator().manual_seed(0), CPU)
    with pytest.raises(ZeroDivisionError), attached([adapter]):
        raise ZeroDivisionError
    assert not module._forward_hooks


@pytest.mark.parametrize("shape, inside", [((32, 1024), 1024), ((32, 64, 4, 4), 1024)])
def test_down_starts_as_a_layer_of_its_own_and_up_at_zero(shape, inside):
    """Uniform in +-1/sqrt(in): variance 1 / (3 in)."""
    down, up = init_lora(shape, 64, torch.Generator().manual_seed(0))
    assert down.abs().max() <= inside**-0.5
    assert down.var().item() == pytest.approx(1 / (3 * inside), rel=0.02)
    assert up.shape == (32, 64, *[1] * (len(shape) - 2)) and not up.any()


@pytest.mark.parametrize("module", [nn.Conv2d(4, 4, 3, groups=2), nn.Conv1d(4, 4, 1), nn.LayerNorm(4)])
def test_a_layer_that_has_no_lora_is_refused(module):
    with pytest.raises(ModelError, match="conv: expected a linear layer or a 2D convolution without groups"):
        new_adapter("conv", "unet", module, 2, torch.Generator(), CPU)


class Attention(nn.Module):
    """Three layers that read what those of an attention read: q reads x, k and v read the context."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(6, 5, bias=False) for _ in range(3))
        self.requires_grad_(False)

    def forward(self, x, context):
        return self.to_q(x).sin() + self.to_k(context).cos() * self.to_v(context)


@pytest.mark.parametrize("is_self_attention", [True, False])
def test_downs_joined_for_q_k_and_v_change_neither_values_nor_gradients(is_self_attention):
    """Compared with adapters whose names do not tell that they belong together."""
    torch.manual_seed(0)
    attention = Attention()
    x = torch.randn(2, 3, 6)
    context = x if is_self_attention else torch.randn(2, 3, 6)

    def outcome(names):
        generator = torch.Generator().manual_seed(0)
        adapters = [
            new_adapter(name, "unet", module, 2, generator, CPU)
            for name, module in zip(names, attention.children(), strict=True)
        ]
        for adapter in adapters:
            adapter.up.data.normal_(generator=generator)
        inputs = x.clone().requires_grad_()
        with attached(adapters):
            output = attention(inputs, inputs if is_self_attention else context)
            output.square().sum().backward()
        return [output, inputs.grad, *(p.grad for a in adapters for p in (a.down, a.up))]

    for joined, alone in zip(
        outcome(["a_to_q", "a_to_k", "a_to_v"]), outcome(["one", "two", "three"]), strict=True
    ):
        assert torch.allclose(joined, alone, atol=1e-5)


def test_joined_downs_are_one_matmul_per_pass_and_hold_nothing_between_two():
    attention = Attention()
    x = torch.randn(2, 3, 6)
    adapters = [
        new_adapter(f"a_{name}", "unet", module, 2, torch.Generator(), CPU)
        for name, module in attention.named_children()
    ]
    alive = weakref.ref(x)
    with attached(adapters), CountOperations() as operations:
        attention(x, x)
    products = operations.counts["aten.mm.default"] + operations.counts["aten.addmm.default"]
    assert products == 3 + 1 + 3  # base, downs, ups
    del x, operations
    assert alive() is None


def test_cross_attention_joins_k_and_v_alone_and_holds_nothing_either():
    attention = Attention()
    x = torch.randn(2, 3, 6)
    context = torch.randn(2, 3, 6)
    adapters = [
        new_adapter(f"a_{name}", "unet", module, 2, torch.Generator(), CPU)
        for name, module in attention.named_children()
    ]
    alive = [weakref.ref(x), weakref.ref(context)]
    with attached(adapters):
        attention(x, context)
        del x, context
        assert [one() for one in alive] == [None, None]


def test_what_a_pass_that_did_not_end_has_left_can_be_let_go():
    """q has computed the downs of k and v, which are never asked for: they hold the graph until then."""
    q, k, v = layers = [nn.Linear(6, 5) for _ in range(3)]
    names = ("attn_to_q", "attn_to_k", "attn_to_v")
    adapters = [
        new_adapter(name, "unet", layer, 3, torch.Generator().manual_seed(0), CPU)
        for name, layer in zip(names, layers, strict=True)
    ]
    x = torch.randn(2, 6)
    alive = weakref.ref(x)
    with attached(adapters) as forget:
        q(x)
        del x
        assert alive() is not None
        forget()
        assert alive() is None
        assert k(torch.randn(2, 6)).isfinite().all() and v(torch.randn(2, 6)).isfinite().all()
