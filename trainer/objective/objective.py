"""What a run minimizes, put together: which noise levels, which noise, which distance, which weights."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from ..data.latents import LatentPicture
from ..distribution import Distribution
from ..errors import SettingError
from ..settings.objective import AUTO_SHIFT, FAMILY, MIN_SNR, MSE, NO_WEIGHTS, ObjectiveConfig
from .levels import Levels
from .loss import PLAIN, Distance, losses
from .network import Network
from .noise import NoiseRecipe
from .prediction import Prediction
from .sigmas import DrawnLevels
from .weighting import Weighting

EVERY_LEVEL, PLAIN_NOISE, EVERYWHERE_THE_SAME = DrawnLevels(), NoiseRecipe(), Weighting()
NOISE = Prediction()


@dataclass(frozen=True)
class Objective:
    """What a run minimizes. As it stands: the mean squared error, each noise level as often as another."""

    drawn: DrawnLevels = EVERY_LEVEL
    noise: NoiseRecipe = PLAIN_NOISE
    distance: Distance = PLAIN
    weighting: Weighting = EVERYWHERE_THE_SAME
    prediction: Prediction = NOISE  # of the network: it says what the target is

    @classmethod
    def of(cls, config: ObjectiveConfig, custom: Distribution, prediction: Prediction) -> "Objective":
        """What somebody asked for, for a network of a family whose custom this is.

        Raises `SettingError` for weights that mean nothing for what the network predicts.
        """
        refuse_weights_of_a_flow(config, prediction)
        return cls(
            drawn=drawn_levels(config, custom),
            noise=NoiseRecipe(
                config.noise_offset,
                config.multires_iterations,
                config.multires_discount,
                config.input_perturbation,
            ),
            distance=Distance(config.loss, config.huber_c),
            weighting=Weighting(config.weighting, config.min_snr_gamma),
            prediction=prediction,
        )

    def loss(
        self,
        network: Network,
        pictures: Sequence[LatentPicture],
        latents: Tensor,
        noise: tuple[Tensor, Tensor],
        levels: Levels,
    ) -> Tensor:
        """The weighted mean over a batch, 0-dim. noise: to find, and as it is added."""
        to_find, added = noise
        of_pictures = losses(network, pictures, latents, to_find, levels, self.distance, added)
        weights = self.weighting.of(levels)
        if weights is not None:
            of_pictures = of_pictures * weights.to(of_pictures, non_blocking=True)
        return of_pictures.mean()

    def identity(self) -> dict[str, Any]:
        """Everything that the numbers of a run depend on, as plain values."""
        values = asdict(self)
        del values["drawn"]["distribution"]["custom"]
        return values

    def lines(self) -> Iterator[str]:
        """What the report says of it."""
        yield f"the model predicts {self.prediction}"
        custom = self.drawn.distribution.custom
        whose = f"the custom of {custom}" if custom else "chosen at Training Objective"
        yield f"noise levels: {self.drawn.distribution}{self._range()} ({whose})"
        if changed := ", ".join(self._changed()):
            yield f"{changed}; held-out pictures are measured by plain mean squared error"

    def _range(self) -> str:
        drawn = self.drawn
        whole = (drawn.least, drawn.most) == (0, 1)
        return "" if whole else f", only from {drawn.least:g} to {drawn.most:g}"

    def _changed(self) -> Iterator[str]:
        if self.distance.kind != MSE:
            yield f"loss {self.distance.kind}, c {self.distance.c:g}"
        if self.weighting.kind != NO_WEIGHTS:
            gamma = f", gamma {self.weighting.gamma:g}" if self.weighting.kind == MIN_SNR else ""
            yield f"weights {self.weighting.kind}{gamma}"
        noise = self.noise
        if noise.offset:
            yield f"noise offset {noise.offset:g}"
        if noise.multires_iterations:
            yield f"multires noise {noise.multires_iterations} x {noise.multires_discount:g}"
        if noise.perturbation:
            yield f"input perturbation {noise.perturbation:g}"


def drawn_levels(config: ObjectiveConfig, custom: Distribution) -> DrawnLevels:
    """Which noise levels somebody asked for, in a family whose custom this is.

    Raises `SettingError` for a range in which next to none lie.
    """
    if config.noise_levels == FAMILY:
        distribution = custom
    else:
        distribution = Distribution(config.noise_levels, config.logit_mean, config.logit_std)
    if config.shift != AUTO_SHIFT:
        distribution = replace(distribution, shift=config.shift, by_tokens=None, custom="")
    drawn = DrawnLevels(distribution, config.least_noise, config.most_noise)
    drawn.refuse_empty()
    return drawn


def refuse_weights_of_a_flow(config: ObjectiveConfig, prediction: Prediction) -> None:
    """Raises `SettingError` where SNR weights were asked for and the network predicts a flow."""
    if prediction.is_flow and config.weighting != NO_WEIGHTS:
        raise SettingError(
            f"weighting {config.weighting!r} means nothing for this model, which predicts a flow: its noise"
            " levels are weighted by how often they are drawn. Expected 'none' at Training Objective; to"
            " train more on much or on little noise, change the shift there."
        )
