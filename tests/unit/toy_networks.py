"""Networks of a few layers in the shapes of ComfyUI's: which modules hold which, under which names.

All take pictures [batch, 4, 4, 4].
"""

import torch
from torch import Tensor, nn

CHANNELS = 4


def pictures() -> Tensor:
    return torch.randn(2, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0))


def linear() -> nn.Linear:
    return nn.Linear(CHANNELS, CHANNELS)


def convolution(kernel: int) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = linear()
        self.to_out = nn.Sequential(linear(), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(self.to_q(x))


class TransformerBlock(nn.Module):
    """As that of a UNet."""

    def __init__(self) -> None:
        super().__init__()
        self.attn1 = Attention()
        self.ff = nn.Sequential()
        self.ff.net = nn.Sequential(nn.Sequential(), nn.Identity(), linear())
        self.ff.net[0].proj = linear()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ff(self.attn1(x))


class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj_in = convolution(1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock()])
        self.proj_out = convolution(1)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.proj_in(x).movedim(1, 3)
        for block in self.transformer_blocks:
            inside = block(inside)
        return x + self.proj_out(inside.movedim(3, 1))


class ResBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.SiLU(), convolution(3))
        self.emb_layers = nn.Sequential(nn.SiLU(), linear())

    def forward(self, x: Tensor) -> Tensor:
        return self.in_layers(x) + self.emb_layers(x.mean((2, 3)))[..., None, None]


class Upsample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = convolution(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Steps(nn.Sequential):
    """As ComfyUI's TimestepEmbedSequential, which gives each of its parts what that wants."""


class UNet(nn.Module):
    """As those of SD 1.5 to SDXL."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Sequential(linear(), nn.SiLU(), linear())
        self.input_blocks = nn.ModuleList(
            [Steps(convolution(3)), Steps(ResBlock(), SpatialTransformer()), Steps(ResBlock())]
        )
        self.middle_block = Steps(ResBlock(), SpatialTransformer())
        self.output_blocks = nn.ModuleList([Steps(ResBlock(), Upsample())])
        self.out = nn.Sequential(nn.SiLU(), convolution(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.time_embed(x.mean((2, 3)))[..., None, None]
        for block in (*self.input_blocks, self.middle_block, *self.output_blocks):
            x = block(x)
        return self.out(x)


class ModulatedBlock(nn.Module):
    """As that of a diffusion transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Sequential()
        self.attn.qkv = linear()
        self.mlp = nn.Sequential(linear(), nn.GELU(), linear())
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), linear())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.attn(x)) * self.adaLN_modulation(x)


class DiT(nn.Module):
    """As those of Flux, Lumina 2 and others."""

    def __init__(self) -> None:
        super().__init__()
        self.x_embedder = linear()
        self.t_embedder = nn.Sequential(linear(), nn.SiLU())
        self.noise_refiner = nn.ModuleList([ModulatedBlock()])
        self.layers = nn.ModuleList([ModulatedBlock(), ModulatedBlock()])
        self.final_layer = linear()

    def forward(self, x: Tensor) -> Tensor:
        x = self.t_embedder(self.x_embedder(x.movedim(1, 3)))
        for block in (*self.noise_refiner, *self.layers):
            x = block(x)
        return self.final_layer(x).movedim(3, 1)


class Residual(nn.Module):
    """One of the two layers of a block of T5."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, linear())

    def forward(self, x: Tensor) -> Tensor:
        (inner,) = self.children()
        return x + inner(x)


class T5Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList([Residual("SelfAttention"), Residual("DenseReluDense")])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x)
        return x


class T5(nn.Module):
    """A text encoder whose blocks lie deep."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.encoder = nn.Module()
        self.transformer.encoder.block = nn.ModuleList([T5Block(), T5Block()])
        self.text_projection = linear()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.transformer.encoder.block:
            x = block(x)
        return self.text_projection(x)


class SeesPictures(T5):
    """A text encoder that can read pictures too, as Qwen2.5-VL."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer.visual = nn.Module()
        self.transformer.visual.blocks = nn.ModuleList([T5Block()])


class ListsInLists(nn.Module):
    """As Stable Cascade's."""

    def __init__(self) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(
            [nn.ModuleList([ResBlock(), ResBlock()]), nn.ModuleList([ResBlock()])]
        )

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.down_blocks:
            for block in stage:
                x = block(x)
        return x


class NoBlocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x)
