"""The recipe of one run: what DAdapt Optimizer shows.

The recipe is the guide "the best LoRA optimizer for lazy people" of April 2023: learning rate 1.0, text
encoder 0.5, UNet 1.0, constant with 10% warmup, decoupled weight decay 0.02, alpha = dim. The help texts
carry its advice; the nodes show them as tooltips.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import SettingError
from ..parts import KINDS, is_text_encoder
from .declare import check_settings, setting
from .growth import auto_growth
from .presets import AUTO_GROWTH, NO_GROWTH_LIMIT, PRESETS
from .recipe_checks import NEVER_FROZEN, TO_THE_END, check_recipe
from .schedule import SCHEDULES

NO_CAP, NO_EMA = 0.0, 0.0


@dataclass(frozen=True)
class OptimizerConfig:
    """The recipe of one run: the preset and its fields."""

    preset: str = setting(
        "guide 2023",
        "One click for the whole recipe. The fields below that a preset sets itself, or does not use, have to"
        " stay as they were in a new node. "
        + " ".join(f"'{name}': {preset.help}." for name, preset in PRESETS.items()),
        choices=tuple(PRESETS),
    )
    learning_rate: float = setting(
        1.0,
        "A share of the ideal rate, which is found by itself: 1.0 is full speed, 0.5 half speed. Lower it if"
        " the LoRA learns too harshly; never set a classical rate such as 1e-4 here.",
        min=0.01,
        max=10.0,
        step=0.05,
    )
    unet: float = setting(
        1.0, "Speed of the UNet, as a share of the learning rate above.", min=0.01, max=10.0, step=0.05
    )
    text_encoder: float = setting(
        0.5,
        "Speed of each text encoder, as a share of the learning rate above. 0.5 is truly half the UNet's"
        " speed: it burns more easily.",
        min=0.01,
        max=10.0,
        step=0.05,
    )
    warmup_percent: float = setting(
        10.0,
        "Share of the run over which the rate rises from nothing to full, in percent. 5 to 10 is good. It"
        " delays d, it does not change where d ends.",
        min=0.0,
        max=90.0,
        step=1.0,
    )
    schedule: str = setting(
        "constant",
        "What the rate does after the warmup. 'constant' stays at full; 'cosine' falls to nothing at the end"
        " of the run, so that the end is calm and long runs overtrain less.",
        choices=SCHEDULES,
    )
    decouple: bool = setting(
        True,
        "Weight decay as in AdamW, separate from the gradient. Leave it on. Coupled weight decay destroys a"
        " LoRA, and is refused.",
    )
    weight_decay: float = setting(
        0.02,
        "Pulls the LoRA's weights towards zero. Less, 0.001 to 0.02, for characters and objects; 0.02 to 0.04"
        " for styles and concepts.",
        min=0.0,
        max=1.0,
        step=0.001,
    )
    beta1: float = setting(
        0.9, "How long a gradient is remembered. Rarely worth changing.", min=0.0, max=0.999, step=0.01
    )
    beta2: float = setting(
        0.999,
        "How long the size of gradients is remembered. Rarely worth changing.",
        min=0.5,
        max=0.99999,
        step=0.001,
    )
    d0: float = setting(
        1e-6,
        "First guess of d, from which it only rises. Choose it too low rather than too high; 1e-5 helps runs"
        " below 100 steps.",
        min=1e-8,
        max=1e-2,
        step=1e-8,
    )
    growth_rate: float = setting(
        AUTO_GROWTH,
        "How much d may grow in one step: 1.02 is 2%. 0 is auto: from the run's length, so that d can pass"
        " 5e-4 in two thirds of it and in 128 steps at most (5%), and the network has time to answer; from a"
        " d0 of 5e-4 or more, d stays. 10 is no limit. The guide does not set it: with bias correction, it is"
        " the safeguard that this pack adds.",
        min=0.0,
        max=NO_GROWTH_LIMIT,
        step=0.01,
    )
    bias_correction: bool = setting(
        True,
        "Adam's bias correction. Without it the first 100 steps are 3 to 6 times too large, and d overshoots"
        " on top of them. The guide does not set it either.",
    )
    implementation: str = setting(
        "fast",
        "'fast' computes a step of D-Adaptation in a handful of operations over all layers at once."
        " 'reference' is the authors' own code, from the dadaptation package: the same numbers, slower.",
        choices=("fast", "reference"),
    )
    d_cap: float = setting(
        NO_CAP,
        "The highest that d may become. 0 is no cap. 5e-4 to 1e-3 is where AdamW would be; a cap there keeps"
        " long runs gentle.",
        min=0.0,
        max=1.0,
        step=1e-5,
    )
    freeze_d_percent: float = setting(
        NEVER_FROZEN,
        "From this share of the run on, in percent, d stays as it is, which also frees a third of the"
        " optimizer's memory. 0 is never. d only ever rises, and late in a run it rises on noise.",
        min=0.0,
        max=99.0,
        step=1.0,
    )
    ema: float = setting(
        NO_EMA,
        "Averages the LoRA over about the last 1 / (1 - ema) steps: 0.99 is 100 steps. The average is"
        " what is measured, shown and saved. 0 is off.",
        min=0.0,
        max=0.9999,
        step=0.0001,
    )
    stop_unet_percent: float = setting(
        TO_THE_END,
        "The UNet stops training at this share of the run, in percent, and does not move any more. 100 trains"
        " it to the end.",
        min=1.0,
        max=100.0,
        step=1.0,
    )
    stop_text_encoder_percent: float = setting(
        TO_THE_END,
        "The text encoders stop training at this share of the run, in percent. 30 to 50 keeps the model's"
        " other words intact, and the rest of the run is faster.",
        min=1.0,
        max=100.0,
        step=1.0,
    )
    burn_guard: bool = setting(
        True,
        "Measures the loss on a few training pictures during the run. If it rises well above the untouched"
        " model's, the LoRA has burnt: it goes back to its last good state, d is limited, and training goes"
        " on. Takes a few percent of the time.",
    )
    adamw_rate: float = setting(
        5e-4,
        "Only for the preset AdamW, which does not find its rate: the learning rate of the UNet. 1e-4 to 1e-3"
        " is usual.",
        min=1e-7,
        max=1.0,
        step=1e-7,
    )
    s_in_bf16: bool = setting(
        False,
        "Stores one of D-Adaptation's three sums in 16 bits: the optimizer takes a sixth less memory, and d"
        " differs in its third digit.",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        check_recipe(self)
        self.refuse_stopping(KINDS)

    def refuse_stopping(self, parts: Iterable[str]) -> None:
        """Raises `SettingError` where none of the trained parts trains to the end."""
        if all(self.stop_percent(part) != TO_THE_END for part in parts):
            raise SettingError(
                "Nothing would train at the end of the run: every part stops before it. Expected at least one"
                " trained part that stops at 100%. To train less, shorten the run at Train."
            )

    @property
    def algorithm(self) -> str:
        """The optimizer behind the preset, in `optim.registry.ALGORITHMS`."""
        return PRESETS[self.preset].algorithm

    def resolved(self) -> "OptimizerConfig":
        """The settings that the preset stands for."""
        return replace(self, **PRESETS[self.preset].settings)

    def growth_limit(self, steps: int) -> float:
        """The most that d may be multiplied by in one of `steps` steps; infinite for no limit."""
        rate = self.growth_rate
        if rate == AUTO_GROWTH:
            return auto_growth(self.d0, steps)
        return math.inf if rate >= NO_GROWTH_LIMIT else rate

    def speed_of(self, part: str) -> float:
        """Share of the learning rate at which `part` trains."""
        return self.text_encoder if is_text_encoder(part) else self.unet

    def stop_percent(self, part: str) -> float:
        """Share of the run, in percent, at which `part` stops training."""
        return self.stop_text_encoder_percent if is_text_encoder(part) else self.stop_unet_percent
