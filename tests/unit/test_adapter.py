"""The LoRA's mathematics."""

import pytest
import torch
from comfyui_dadapt_lora.trainer.adapter import attached, init_lora, new_adapter
from comfyui_dadapt_lora.trainer.errors import ModelError
from torch import nn

CPU = torch.device("cpu")


def modules():
    torch.manual_seed(0)
    return [
        (nn.Linear(6, 5), torch.randn(3, 7, 6)),
        (nn.Conv2d(6, 5, 1), torch.randn(2, 6, 4, 4)),
        (nn.Linear(6, 5, bias=False), torch.randn(6)),
    ]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
@pytest.mark.parametrize("module, x", modules())
def test_hook_computes_what_the_merged_weight_computes(module, x, dtype, tolerance):
    """Whatever dtype the host's module is in; the LoRA itself stays fp32."""
    module, x = module.to(dtype), x.to(dtype)
    adapter = new_adapter("a", "unet", module, 3, torch.Generator().manual_seed(0), CPU)
    adapter.up.data.normal_(generator=torch.Generator().manual_seed(1))
    with attached([adapter]):
        hooked = module(x)
    plain = module(x)
    merged = module.weight.float() + (adapter.up @ adapter.down).reshape(module.weight.shape)
    expected = nn.functional.linear if module.weight.dim() == 2 else nn.functional.conv2d
    expected = expected(x.float(), merged, None if module.bias is None else module.bias.float())
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


def test_no_base_weight_gets_a_gradient_and_the_state_dict_is_the_hosts_own():
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


def test_down_starts_as_a_linear_layer_and_up_at_zero():
    """Uniform in +-1/sqrt(in): variance 1 / (3 in)."""
    down, up = init_lora(1024, 32, 64, torch.Generator().manual_seed(0))
    assert down.abs().max() <= 1 / 32
    assert down.var().item() == pytest.approx(1 / (3 * 1024), rel=0.02)
    assert up.shape == (32, 64) and not up.any()


def test_a_convolution_with_a_larger_kernel_is_refused():
    with pytest.raises(ModelError, match="kernel 1"):
        new_adapter("conv", "unet", nn.Conv2d(4, 4, 3), 2, torch.Generator(), CPU)
