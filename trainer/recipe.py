"""What one training run is asked to do: frozen settings with their checks, ranges and help.

The recipe is the guide "the best LoRA optimizer for lazy people" of April 2023: learning rate 1.0, text encoder 0.5, UNet 1.0,
constant with 10% warmup, decoupled weight decay 0.02, alpha = dim. The help texts carry its advice; the nodes show them as tooltips.
"""

import math
from dataclasses import dataclass, replace

from .errors import SettingError
from .settings import check_settings, setting

SAME_AS_DIM = "same as dim"


@dataclass(frozen=True)
class DatasetConfig:
    """How a folder of pictures is read."""

    trigger_word: str = setting(
        "",
        "A word that the model does not know yet, put before each caption ('fluent3d, red apple'). Write it in your prompt to call "
        "the LoRA. Leave it empty to train on the captions alone, which keeps more of what the model already knows of their words.",
    )
    resolution: int = setting(
        512,
        "Side of the square, in pixels, that a picture's area is brought to. Pictures keep their shape: they are sorted into buckets "
        "of this area. Choose what the model was made for: 512 for SD 1.5.",
        min=64,
        max=2048,
        step=64,
    )
    heldout_share: float = setting(
        0.0,
        "Share of the pictures that is not trained on but measured, to see when the LoRA starts to overtrain. 0 is off; 0.1 is "
        "sensible from about 30 pictures on. The same pictures are chosen each time.",
        min=0.0,
        max=0.5,
        step=0.05,
    )
    broken_pictures: str = setting(
        "stop",
        "What to do when a picture cannot be read. 'stop' names all of them and trains nothing; 'skip' leaves them out and says so in "
        "the report.",
        choices=("stop", "skip"),
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class LoraConfig:
    """Size of the LoRA and the parts of the model that it adapts. alpha is dim: there is no other choice."""

    dim: int = setting(
        16,
        "Rank of the LoRA: how much it can hold, and how large its file is. 8 to 16 for a character or an object, 16 to 32 for a "
        "style, rarely more than 64.",
        min=1,
        max=512,
    )
    alpha: str | float = setting(
        SAME_AS_DIM,
        "Always the same as dim. D-Adaptation finds the rate by itself; an alpha below dim does not dampen it, it multiplies it and "
        "makes the result worse.",
    )
    train_unet: bool = setting(True, "Adapt the UNet, the part that draws. Leave it on unless you only want to teach words.")
    train_text_encoder: bool = setting(
        True,
        "Adapt the text encoder, the part that reads the prompt. On: trigger words are learned better. Off: faster, less memory, and "
        "the LoRA disturbs other prompts less.",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.alpha not in (SAME_AS_DIM, self.dim):
            raise SettingError(
                f"alpha: expected {SAME_AS_DIM!r} (here {self.dim}), got {self.alpha!r}. With D-Adaptation another alpha does not "
                "dampen the training: the estimated rate grows to cancel it and overshoots (d x17 at alpha 1, dim 128). Leave alpha "
                "at the same value as dim; to train more gently, lower the learning rate at DAdapt Optimizer (0.5 is half speed)."
            )
        if not (self.train_unet or self.train_text_encoder):
            raise SettingError("Nothing to train: both 'train unet' and 'train text encoder' are off. Switch at least one on.")

    @property
    def parts(self) -> tuple[str, ...]:
        """The trained parts, of "unet" and "text_encoder"."""
        chosen = {"unet": self.train_unet, "text_encoder": self.train_text_encoder}
        return tuple(part for part, trained in chosen.items() if trained)


USEFUL_D = 5e-4
REACHED_AT = 0.64  # of the run; the warmup, in which d hardly moves, comes on top
AUTO_GROWTH = 0.0
NO_GROWTH_LIMIT = 10.0

# What each preset sets, whatever the fields below it say. Adding a preset is adding an entry.
PRESETS: dict[str, dict[str, object]] = {
    "guide 2023": {},
    "as published": {"bias_correction": False, "growth_rate": NO_GROWTH_LIMIT},
}


@dataclass(frozen=True)
class OptimizerConfig:
    """The recipe for D-Adaptation Adam."""

    preset: str = setting(
        "guide 2023",
        "'guide 2023': the recipe of the guide, with the safeguards below that keep it from burning. 'as published': the optimizer as "
        "its authors shipped it, without bias correction and without a limit on growth, whatever the two fields say; on short runs "
        "it often destroys the LoRA within its first 50 steps.",
        choices=tuple(PRESETS),
    )
    learning_rate: float = setting(
        1.0,
        "A share of the ideal rate, which is found by itself: 1.0 is full speed, 0.5 half speed. Lower it if the LoRA learns too "
        "harshly; never set a classical rate such as 1e-4 here.",
        min=0.01,
        max=10.0,
        step=0.05,
    )
    unet: float = setting(
        1.0, "Speed of the UNet, as a share of the learning rate above.", min=0.01, max=10.0, step=0.05
    )
    text_encoder: float = setting(
        0.5,
        "Speed of the text encoder, as a share of the learning rate above. 0.5 is truly half the UNet's speed: it burns more easily.",
        min=0.01,
        max=10.0,
        step=0.05,
    )
    warmup_percent: float = setting(
        10.0,
        "Share of the run over which the rate rises from nothing to full, in percent. 5 to 10 is good. It delays d, it does not change "
        "where d ends.",
        min=0.0,
        max=90.0,
        step=1.0,
    )
    schedule: str = setting("constant", "How the rate goes on after the warmup.", choices=("constant",))
    decouple: bool = setting(
        True,
        "Weight decay as in AdamW, apart from the gradient. Leave it on; without it, decay destroys a LoRA, and is refused.",
    )
    weight_decay: float = setting(
        0.02,
        "Pulls the LoRA's weights towards zero. Less, 0.001 to 0.02, for characters and objects; 0.02 to 0.04 for styles and concepts.",
        min=0.0,
        max=1.0,
        step=0.001,
    )
    beta1: float = setting(0.9, "How long a gradient is remembered. Rarely worth changing.", min=0.0, max=0.999, step=0.01)
    beta2: float = setting(
        0.999, "How long the size of gradients is remembered. Rarely worth changing.", min=0.5, max=0.99999, step=0.001
    )
    d0: float = setting(
        1e-6,
        "First guess of d, from which it only rises. Choose it too low rather than too high; 1e-5 helps runs below 100 steps.",
        min=1e-8,
        max=1e-2,
        step=1e-8,
    )
    growth_rate: float = setting(
        AUTO_GROWTH,
        "How much d may grow in one step: 1.02 is 2%. 0 is auto: from the run's length, so that d passes 5e-4 after two thirds of it and "
        "the network has time to answer; from a d0 of 5e-4 or more, d stays. 10 is no limit. The guide does not set it: with bias "
        "correction, it is the safeguard that this pack adds.",
        min=0.0,
        max=NO_GROWTH_LIMIT,
        step=0.01,
    )
    bias_correction: bool = setting(
        True,
        "Adam's bias correction. Without it the first 100 steps are 3 to 6 times too large, and d overshoots on top of them. The guide "
        "does not set it either.",
    )
    implementation: str = setting(
        "reference",
        "'reference' is the authors' own code, from the dadaptation package. 'fast' computes the same in a handful of operations over "
        "all layers at once.",
        choices=("reference", "fast"),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if AUTO_GROWTH < self.growth_rate < 1.0:
            raise SettingError(f"growth rate: expected 0 (auto) or at least 1, got {self.growth_rate}: d cannot shrink.")
        if self.weight_decay > 0 and not self.decouple:
            raise SettingError(
                f"weight decay {self.weight_decay} with decouple off: expected decouple on, or weight decay 0. Coupled decay enters "
                "the estimate of d and destroys the LoRA."
            )

    def resolved(self) -> "OptimizerConfig":
        """The settings that the preset stands for."""
        return replace(self, **PRESETS[self.preset])

    def growth_limit(self, steps: int) -> float:
        """The most that d may be multiplied by in one of `steps` steps; infinite for no limit."""
        rate = self.resolved().growth_rate
        if rate == AUTO_GROWTH:
            return auto_growth(self.d0, steps)
        return math.inf if rate >= NO_GROWTH_LIMIT else rate

    def speed_of(self, part: str) -> float:
        """Share of the learning rate at which `part` ("unet" or "text_encoder") trains."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}[part]


def auto_growth(d0: float, steps: int) -> float:
    """The growth rate at which d reaches 5e-4 after two thirds of the run, when all gradients agree.

    Measured on the demo's model, where AdamW does best at 5e-4 to 1e-3: without a limit d passes through there at x1.3 to x2 a step,
    stops at 2e-3 to 4e-3, and breaks shapes on the way. With this one the network has time to answer, and most of the run is gentle.
    """
    return max(1.0, (USEFUL_D / d0) ** (1 / (REACHED_AT * steps)))


@dataclass(frozen=True)
class RunConfig:
    """Length, batch, seed and precision of one run."""

    duration: int = setting(
        1000,
        "How long to train, in the unit below. 1000 to 2000 steps at batch 1 suit 20 to 50 pictures; fewer with larger batches.",
        min=1,
        max=1_000_000,
    )
    duration_unit: str = setting(
        "steps",
        "'steps' counts batches. 'epochs' counts how often each picture is seen, with its repeats.",
        choices=("steps", "epochs"),
    )
    batch_size: int = setting(
        1,
        "Pictures a step. More is smoother and needs more memory; with 2 to 4, fewer steps are needed.",
        min=1,
        max=64,
    )
    seed: int = setting(
        0, "The same seed gives the same LoRA on the same machine.", min=0, max=2**53 - 1
    )
    precision: str = setting(
        "auto",
        "In what the network computes while it trains; the LoRA itself is always fp32. 'auto' takes what the model was loaded in where "
        "that has 16 bits, else bf16 where the hardware is fast at it, else fp32.",
        choices=("auto", "fp32", "bf16", "fp16"),
    )

    def __post_init__(self) -> None:
        check_settings(self)
