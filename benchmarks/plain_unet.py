"""A network of SD 1.5's architecture in plain torch with random weights, for benchmarks without ComfyUI.

The training loop takes it as its `Network`. The UNet is that of Rombach et al. 2022 (arXiv 2112.10752), the
text encoder CLIP's of Radford et al. 2021 (arXiv 2103.00020), both of any size. Modules have the names that
`trainer/families.py` knows, so that the same layers are adapted.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..trainer.adapters.choice import text_encoder_layers, unet_layers
from ..trainer.adapters.lora import LoraAdapter, new_adapter
from ..trainer.data.latents import LatentPicture
from ..trainer.families import FAMILIES
from ..trainer.objective.levels import Levels
from ..trainer.parts import UNET
from ..trainer.seeds import stream
from ..trainer.settings.lora import LoraConfig

TEXT_ENCODER = "clip_l"

CHANNELS = 4  # of a latent
PIXELS = 8  # of a picture's side, per pixel of its latent's
TIMESTEPS = 1000
FIRST_BETA = 0.00085  # of the noise schedule
LAST_BETA = 0.012


@dataclass(frozen=True)
class Sizes:
    """How large the network is. The defaults are SD 1.5's."""

    width: int = 320  # channels of the first level
    multipliers: tuple[int, ...] = (1, 2, 4, 4)  # width of each level, as a multiple of the first's
    res_blocks: int = 2  # of each level, on the way down; one more on the way up
    attention_levels: int = 3  # how many levels, from the first on, have transformers
    depth: int = 1  # transformer blocks in each transformer, one after the other
    heads: int = 8
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    tokens: int = 77  # of a caption
    vocabulary: int = 49408

    @classmethod
    def narrower(cls, times: int, depth: int = 1) -> "Sizes":
        """All layers of SD 1.5, each that many times narrower; 1, 2, 4 and 8 divide evenly."""
        return cls(width=320 // times, text_width=768 // times, depth=depth)


# the UNet ---------------------------------------------------------------------------------------------------


class UNet(nn.Module):
    """Predicts the noise in latents [batch, 4, height, width].

    Height and width must be multiples of 2 ** (levels - 1).
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.width = sizes.width
        embedded = 4 * sizes.width
        widths = [sizes.width * multiplier for multiplier in sizes.multipliers]
        self.time_embed = nn.Sequential(
            nn.Linear(sizes.width, embedded), nn.SiLU(), nn.Linear(embedded, embedded)
        )

        def stage(inside: int, level: int) -> _Stage:
            transformer = [_Transformer(widths[level], sizes)] if level < sizes.attention_levels else []
            return _Stage(_ResBlock(inside, widths[level], embedded), *transformer)

        self.input_blocks = nn.ModuleList([_Stage(nn.Conv2d(CHANNELS, widths[0], 3, padding=1))])
        skipped = [widths[0]]  # widths of the skip connections from the way down to the way up
        for level, width in enumerate(widths):
            for block in range(sizes.res_blocks):
                self.input_blocks.append(stage(width if block else skipped[-1], level))
                skipped.append(width)
            if level < len(widths) - 1:
                self.input_blocks.append(_Stage(nn.Conv2d(width, width, 3, stride=2, padding=1)))
                skipped.append(width)

        last = widths[-1]
        self.middle_block = _Stage(
            _ResBlock(last, last, embedded), _Transformer(last, sizes), _ResBlock(last, last, embedded)
        )

        self.output_blocks = nn.ModuleList()
        inside = last
        for level in reversed(range(len(widths))):
            for _ in range(sizes.res_blocks + 1):
                self.output_blocks.append(stage(inside + skipped.pop(), level))
                inside = widths[level]
            if level:
                self.output_blocks[-1].append(_Upsample(inside))
        self.out = nn.Sequential(_norm(inside), nn.SiLU(), nn.Conv2d(inside, CHANNELS, 3, padding=1))

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """The noise, for x [batch, 4, height, width], timesteps [batch], text [batch, tokens, text width]."""
        time = self.time_embed(_waves(timesteps, self.width))
        skipped = []
        for block in self.input_blocks:
            x = block(x, time, text)
            skipped.append(x)
        x = self.middle_block(x, time, text)
        for block in self.output_blocks:
            x = block(torch.cat((x, skipped.pop()), dim=1), time, text)
        return self.out(x)


class _Stage(nn.Sequential):
    """Layers in sequence, each with the inputs that its type takes."""

    def forward(self, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        given = {_ResBlock: (time,), _Transformer: (text,)}
        for layer in self:
            x = layer(x, *given.get(type(layer), ()))
        return x


class _ResBlock(nn.Module):
    def __init__(self, inside: int, out: int, embedded: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(_norm(inside), nn.SiLU(), nn.Conv2d(inside, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, out))
        self.out_layers = nn.Sequential(_norm(out), nn.SiLU(), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if inside == out else nn.Conv2d(inside, out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(y)


class _Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Transformer(nn.Module):
    """Transformer blocks over the pixels, which attend to each other and to the text."""

    def __init__(self, width: int, sizes: Sizes) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([_TransformerBlock(width, sizes) for _ in range(sizes.depth)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        pixels = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # [batch, height * width, channels]
        for block in self.transformer_blocks:
            pixels = block(pixels, text)
        return x + self.proj_out(pixels.transpose(1, 2).reshape(x.shape))


class _TransformerBlock(nn.Module):
    def __init__(self, width: int, sizes: Sizes) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1 = _Attention(width, width, sizes.heads)
        self.attn2 = _Attention(width, sizes.text_width, sizes.heads)
        self.ff = _FeedForward(width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class _Attention(nn.Module):
    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.to_out(_attended(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class _FeedForward(nn.Module):
    """A feed-forward layer with a gated GELU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(_Gated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _Gated(nn.Module):
    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inside, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


def _attended(q: Tensor, k: Tensor, v: Tensor, heads: int, causal: bool = False) -> Tensor:
    """Attention of several heads; q, k, v and the output are [batch, tokens, channels]."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


def _norm(width: int) -> nn.GroupNorm:
    """A norm of 32 groups, or as many of them as divide a narrower network's channels."""
    return nn.GroupNorm(math.gcd(32, width), width)


def _waves(timesteps: Tensor, width: int) -> Tensor:
    """Cosines, then sines of the timestep, [batch, width], with periods from 2 pi to 20,000 pi."""
    frequencies = torch.exp(
        torch.arange(width // 2, device=timesteps.device) * (-math.log(10_000) / (width // 2))
    )
    angles = timesteps[:, None].float() * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


# the text encoder -------------------------------------------------------------------------------------------


class TextEncoder(nn.Module):
    """Text embeddings [batch, tokens, text width] of captions.

    The token of a word is a checksum of it: nothing here knows what words mean.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.tokens = sizes.tokens
        self.vocabulary = sizes.vocabulary
        # Their random weights are drawn in this order.
        tokens = nn.Embedding(sizes.vocabulary, sizes.text_width)
        positions = nn.Embedding(sizes.tokens, sizes.text_width)
        layers = [_TextLayer(sizes.text_width, sizes.text_heads) for _ in range(sizes.text_layers)]
        self.text_model = nn.ModuleDict(
            {
                "token_embedding": tokens,
                "position_embedding": positions,
                "encoder": nn.ModuleDict({"layers": nn.ModuleList(layers)}),
                "final_layer_norm": nn.LayerNorm(sizes.text_width),
            }
        )

    def forward(self, captions: Sequence[str]) -> Tensor:
        model = self.text_model
        numbers = torch.tensor(
            [self.tokenize(caption) for caption in captions], device=model["position_embedding"].weight.device
        )
        x = model["token_embedding"](numbers) + model["position_embedding"].weight
        for layer in model["encoder"]["layers"]:
            x = layer(x)
        return model["final_layer_norm"](x)

    def tokenize(self, caption: str) -> list[int]:
        """One token per word after a start token, filled up with end tokens. Surplus words are left out."""
        kept = caption.split()[: self.tokens - 2]
        words = [zlib.crc32(word.encode()) % (self.vocabulary - 2) for word in kept]
        start = self.vocabulary - 2
        end = self.vocabulary - 1
        return [start, *words] + [end] * (self.tokens - 1 - len(words))


class _TextLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layer_norm1 = nn.LayerNorm(width)
        self.layer_norm2 = nn.LayerNorm(width)
        self.self_attn = nn.ModuleDict(
            {f"{name}_proj": nn.Linear(width, width) for name in ("q", "k", "v", "out")}
        )
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer_norm1(x)
        attention = self.self_attn
        q, k, v = (attention[f"{name}_proj"](y) for name in ("q", "k", "v"))
        x = x + attention["out_proj"](_attended(q, k, v, self.heads, causal=True))
        y = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](y * torch.sigmoid(1.702 * y))  # CLIP's GELU


# as the training loop sees it -------------------------------------------------------------------------------


class PlainNetwork:
    """UNet and text encoder as the training loop's `Network`, on one device and in one dtype."""

    def __init__(
        self,
        sizes: Sizes,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        self.device = torch.device(device)
        with torch.random.fork_rng(), self.device:
            torch.manual_seed(seed)
            self.unet, self.text_encoder = (
                model.to(dtype).requires_grad_(False) for model in (UNet(sizes), TextEncoder(sizes))
            )
        betas = torch.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, TIMESTEPS, dtype=torch.float64) ** 2
        # The share of the latent's variance in a noised one at each timestep.
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self._table = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()
        self._table_on_device = self._table.to(self.device, torch.float32)

    def levels(self, u: Tensor) -> Levels:
        sigmas = self._table[(u * TIMESTEPS).long()]
        size = (1 + sigmas**2).sqrt()  # noised latents keep the variance 1
        return Levels(sigmas, 1 / size, sigmas / size, size, -sigmas)

    def encode(self, pictures: Sequence[LatentPicture]) -> Tensor:
        return self.text_encoder([picture.caption for picture in pictures])

    def predict(self, noised: Tensor, levels: Levels, conditioning: Tensor) -> Tensor:
        sigmas = levels.sigmas.to(self.device, torch.float32, non_blocking=True)
        timesteps = torch.searchsorted(self._table_on_device, sigmas)  # each sigma is one of the table's
        return self.unet(noised, timesteps, conditioning)

    def layers(self) -> list[tuple[str, str, nn.Module]]:
        """(name, part, module) of every layer that a LoRA for SD 1.5 adapts, the UNet's first."""
        config = LoraConfig()
        of_unet = unet_layers(self.unet, FAMILIES["SD15"], config)
        of_text = text_encoder_layers(self.text_encoder, TEXT_ENCODER, config)
        return [
            *((name, UNET, self.unet.get_submodule(name)) for name in of_unet),
            *((name, TEXT_ENCODER, self.text_encoder.get_submodule(name)) for name in of_text),
        ]

    def new_adapters(self, dim: int, seed: int = 0, every: int = 1) -> list[LoraAdapter]:
        """Adapters of `dim` for the first of its layers and every `every`-th after it."""
        generator = stream(seed, "init")
        return [
            new_adapter(name, part, module, dim, generator, self.device)
            for name, part, module in self.layers()[::every]
        ]
