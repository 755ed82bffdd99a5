"""What a run minimizes: what Training Objective shows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..distribution import LOGIT_NORMAL, UNIFORM
from ..errors import SettingError
from .declare import check_settings, limits_of, setting

FAMILY, AUTO_SHIFT, NO_ITERATIONS = "family", 0.0, 0
MSE, HUBER, SMOOTH_L1 = "mse", "huber", "smooth l1"
NO_WEIGHTS, MIN_SNR, DEBIASED = "none", "min-SNR", "debiased"
LEAST_SHIFT = 0.01


@dataclass(frozen=True)
class ObjectiveConfig:
    """What a run minimizes. As it stands in a new node it is what the model's family is trained with."""

    noise_levels: str = setting(
        FAMILY,
        "How often each noise level is trained on. 'family': as the model's family is usually trained; REPORT"
        " at Train says how, and whose custom that is. 'uniform': each as often as another. 'logit-normal':"
        " those in the middle most often, as flow models are trained.",
        choices=(FAMILY, UNIFORM, LOGIT_NORMAL),
    )
    logit_mean: float = setting(
        0.0,
        "Only for 'logit-normal': where its middle is. 0 is half noise; above 0 is more noise, which decides"
        " on composition; below 0 is less, which decides on detail.",
        min=-5.0,
        max=5.0,
        step=0.1,
    )
    logit_std: float = setting(
        1.0,
        "Only for 'logit-normal': its width. 1 is usual; less trains fewer noise levels more often.",
        min=0.05,
        max=10.0,
        step=0.05,
    )
    shift: float = setting(
        AUTO_SHIFT,
        "Moves the noise levels: above 1 towards much noise, below 1 towards little. 0 is auto: the family's"
        " own with 'family', none with the others. Flow models of large pictures are trained at 1 to 7.",
        min=0.0,
        max=100.0,
        step=0.1,
    )
    least_noise: float = setting(
        0.0,
        "Nothing below this noise level is trained on: 0 is no noise, 1 all noise. sd-scripts' min_timestep"
        " over 1000.",
        min=0.0,
        max=0.99,
        step=0.01,
    )
    most_noise: float = setting(
        1.0,
        "Nothing above this noise level is trained on: 0 is no noise, 1 all noise. sd-scripts' max_timestep"
        " over 1000.",
        min=0.01,
        max=1.0,
        step=0.01,
    )
    loss: str = setting(
        MSE,
        "How the error of the network's output is counted. 'mse': by its square, as usual. 'huber' and"
        " 'smooth l1': a small error by its square, a large one by its size, so that odd pictures pull less."
        " Held-out pictures are measured with 'mse' all the same, so that runs can be compared.",
        choices=(MSE, HUBER, SMOOTH_L1),
    )
    huber_c: float = setting(
        0.1,
        "Only for 'huber' and 'smooth l1': the error from which on it counts by its size. Large values come"
        " close to 'mse'.",
        min=0.001,
        max=10.0,
        step=0.01,
    )
    weighting: str = setting(
        NO_WEIGHTS,
        "How much each noise level counts. 'min-SNR': little noise counts less, so that noise levels do not"
        " work against each other. 'debiased': much noise counts more. Both are for models that predict noise"
        " or v. They are refused for flow models, which are weighted by how often a noise level is drawn.",
        choices=(NO_WEIGHTS, MIN_SNR, DEBIASED),
    )
    min_snr_gamma: float = setting(
        5.0,
        "Only for 'min-SNR': lower is a stronger effect. 5 is what its authors advise.",
        min=0.1,
        max=100.0,
        step=0.5,
    )
    noise_offset: float = setting(
        0.0,
        "Adds noise that is the same all over a picture, so that very dark and very bright pictures can be"
        " learned. 0 is off, 0.05 to 0.1 is usual. Models with zero terminal SNR do not need it.",
        min=0.0,
        max=1.0,
        step=0.01,
    )
    multires_iterations: int = setting(
        NO_ITERATIONS,
        "Adds coarser and coarser noise in so many levels, for dark and bright pictures and large shapes. 0"
        " is off, 6 to 10 is usual.",
        min=NO_ITERATIONS,
        max=20,
    )
    multires_discount: float = setting(
        0.3,
        "Only with multires_iterations: how much each coarser level counts, as a share of the one before it."
        " 0.1 to 0.3 is usual.",
        min=0.01,
        max=1.0,
        step=0.01,
    )
    input_perturbation: float = setting(
        0.0,
        "Adds so much more noise to what the network sees, and not to what it should find, so that it learns"
        " to put its own errors right. 0 is off, 0.1 is what its authors advise.",
        min=0.0,
        max=1.0,
        step=0.01,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self._refuse_no_effect()
        if AUTO_SHIFT < self.shift < LEAST_SHIFT:
            raise SettingError(f"shift: expected 0 (auto) or at least {LEAST_SHIFT}, got {self.shift:g}.")
        if self.least_noise >= self.most_noise:
            raise SettingError(
                f"least noise {self.least_noise:g} and most noise {self.most_noise:g}: expected least noise"
                " below most noise. 0 and 1 are all noise levels."
            )

    def _refuse_no_effect(self) -> None:
        """Raises `SettingError` for a field that was changed and that the others leave without effect."""
        for name, wanted in self._without_effect():
            default = limits_of(type(self))[name][0]
            label = name.replace("_", " ")
            raise SettingError(
                f"{label} {getattr(self, name):g} has no effect without {wanted}. Set it back to {default:g},"
                f" or choose {wanted}."
            )

    def _without_effect(self) -> Iterator[tuple[str, str]]:
        for name, (is_used, wanted) in _USED_WITH.items():
            default = limits_of(type(self))[name][0]
            if getattr(self, name) != default and not is_used(self):
                yield name, wanted


# The fields that only have an effect with others: whether they have, and with which
_USED_WITH: Mapping[str, tuple[Callable[[ObjectiveConfig], bool], str]] = {
    "logit_mean": (lambda config: config.noise_levels == LOGIT_NORMAL, "noise levels 'logit-normal'"),
    "logit_std": (lambda config: config.noise_levels == LOGIT_NORMAL, "noise levels 'logit-normal'"),
    "huber_c": (lambda config: config.loss != MSE, "loss 'huber' or 'smooth l1'"),
    "min_snr_gamma": (lambda config: config.weighting == MIN_SNR, "weighting 'min-SNR'"),
    "multires_discount": (lambda config: config.multires_iterations > 0, "multires iterations"),
}
