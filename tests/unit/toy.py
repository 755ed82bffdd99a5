"""A diffusion model small enough to train in a second: a linear denoiser with a text table, as the training loop's `Network`."""

import torch
from torch import Tensor, nn

WORDS = {"red": 0, "blue": 1}
CHANNELS, TOKENS = 4, 8


class ToyNetwork:
    """Predicts noise from the noised latent, the timestep and the caption's embedding, through two layers that a LoRA can adapt."""

    timesteps = 100
    device = torch.device("cpu")

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.text_layer = nn.Linear(TOKENS, TOKENS, bias=False)
        self.unet_layer = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.mix = nn.Linear(TOKENS, CHANNELS, bias=False)
        for module in (self.text_layer, self.unet_layer, self.mix):
            module.requires_grad_(False)
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * 0.3)
        self.unet_layer.bias.zero_()
        self.table = torch.randn(len(WORDS), TOKENS, generator=generator)

    def encode_text(self, captions) -> Tensor:
        return self.text_layer(self.table[[WORDS[caption] for caption in captions]])

    def _alpha(self, timesteps: Tensor) -> Tensor:
        return (1 - (timesteps + 0.5) / self.timesteps).view(-1, 1, 1, 1)

    def noised(self, latents, noise, timesteps):
        alpha = self._alpha(timesteps)
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise

    def predict(self, noised, timesteps, text):
        return self.unet_layer(noised) + self.mix(text)[:, :, None, None]

    def target(self, latents, noise, timesteps):
        return noise
