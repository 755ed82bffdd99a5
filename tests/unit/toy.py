"""A diffusion model small enough to train in a second: a linear denoiser with a text table, as the training
loop's `Network`.

Beside it what a test of the loop trains on it, and how.
"""

import torch
from comfyui_dadapt_lora.trainer.adapters.hooks import attached
from comfyui_dadapt_lora.trainer.adapters.lora import new_adapter
from comfyui_dadapt_lora.trainer.data.latents import LatentPicture
from comfyui_dadapt_lora.trainer.objective.grid import LossGrid
from comfyui_dadapt_lora.trainer.objective.levels import Levels
from comfyui_dadapt_lora.trainer.objective.objective import Objective
from comfyui_dadapt_lora.trainer.parts import UNET
from comfyui_dadapt_lora.trainer.precision import Precision
from comfyui_dadapt_lora.trainer.run.events import StepRecord
from comfyui_dadapt_lora.trainer.run.plan import Plan
from comfyui_dadapt_lora.trainer.run.training import Training
from comfyui_dadapt_lora.trainer.run.work import Work
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
from comfyui_dadapt_lora.trainer.settings.run import RunConfig
from torch import Tensor, nn

TEXT_ENCODER = "clip_l"
WORDS = {"red": 0, "blue": 1}
CHANNELS, TOKENS = 4, 8
FP32 = Precision(torch.float32, torch.device("cpu"))
PLAIN = Objective()


class ToyNetwork:
    """Predicts noise from the noised latent and the caption's embedding, through two layers
    that a LoRA can adapt.
    """

    steps = 100  # of noise
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

    def levels(self, u) -> Levels:
        """Noise levels whose share of the variance grows evenly."""
        share = ((u.double() * self.steps).long() + 0.5) / self.steps
        sigmas = (share / (1 - share)).sqrt()
        size = (1 + sigmas**2).sqrt()  # of noised latents, without what is done here about it
        return Levels(sigmas, 1 / size, sigmas / size, size, -sigmas)

    def encode(self, pictures) -> Tensor:
        return self.text_layer(self.table[[WORDS[picture.caption] for picture in pictures]])

    def predict(self, noised, levels, conditioning):
        return self.unet_layer(noised) + self.mix(conditioning)[:, :, None, None]


def pictures(repeats=1):
    """Two flat pictures: what the toy has to learn is that the caption tells the colour."""
    return [
        LatentPicture(torch.full((CHANNELS, 4, 4), 1.5), "red", repeats),
        LatentPicture(torch.full((CHANNELS, 4, 4), -1.5), "blue", repeats),
    ]


def adapters_of(network, seed=0, dim=4):
    generator = torch.Generator().manual_seed(seed)
    return [
        new_adapter("unet_layer", UNET, network.unet_layer, dim, generator, network.device),
        new_adapter("text_layer", TEXT_ENCODER, network.text_layer, dim, generator, network.device),
    ]


def work_of(
    network, adapters, steps=10, seed=0, precision=FP32, heldout=None, data=None, measure_every=0,
    save_every=0, batch_size=2, pictures_at_once=0, objective=PLAIN, free_memory=lambda: None, **recipe
):  # fmt: skip
    settings = RunConfig(
        duration=steps,
        batch_size=batch_size,
        seed=seed,
        measure_every=measure_every,
        save_every=save_every,
        pictures_at_once=pictures_at_once,
    )
    return Work(
        network=network,
        adapters=adapters,
        pictures=data or pictures(),
        recipe=OptimizerConfig(**recipe),
        run=settings,
        precision=precision,
        heldout=heldout,
        objective=objective,
        free_memory=free_memory,
    )


def training(network, adapters, tell=None, control=None, **settings):
    """A run that has not begun."""
    work = work_of(network, adapters, **settings)
    return Training.of(work, Plan.of(work), tell or (lambda event: None), control)


def run(network, adapters, on_step=None, **settings):
    """The result, and the events: with `on_step`, that hears each record, only those that are no records."""
    events = []

    def hear(event):
        if on_step and isinstance(event, StepRecord):
            on_step(event)
        else:
            events.append(event)

    with attached(adapters):
        result = training(network, adapters, tell=hear, **settings).run()
    return result, events


def of_kind(kind, events):
    return [event for event in events if isinstance(event, kind)]


def toy_grid(network, samples=64):
    return LossGrid.draw(pictures(), torch.Generator().manual_seed(1), samples)


def measured(network, adapters, grid):
    with attached(adapters):
        return grid.loss(network)


def weights(adapters):
    return [weight.detach().clone() for adapter in adapters for weight in (adapter.down, adapter.up)]
