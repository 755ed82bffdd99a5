"""What is minimized: how far a network's output is from what it should be on noised latents.

For a network that predicts noise: Ho et al. 2020, arXiv 2006.11239, equation 14.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..data.latents import LatentPicture
from ..settings.objective import HUBER, MSE
from .levels import Levels
from .network import Network


@dataclass(frozen=True)
class Distance:
    """How the distance between an output and its target is counted.

    The two beside the mean squared error are smooth: kohya-ss/sd-scripts 48d368f, library/train_util.py,
    `conditional_loss` with a constant c. They are the pseudo-Huber loss (Charbonnier et al. 1997) times 2,
    and times 2 / c: the first is d^2 at small d as the mean squared error is, the second 2 d at large d.
    """

    kind: str = MSE
    c: float = 0.1  # where the squared error goes over into the absolute one

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean over each picture: [batch] of [batch, ...]."""
        if self.kind == MSE:
            return F.mse_loss(output, target, reduction="none").flatten(1).mean(1)
        square = (output - target).square()
        # sqrt(d^2 + c^2) - c, without a difference of two numbers that are almost the same
        error = square / ((square + self.c**2).sqrt() + self.c)
        return (2 * self.c if self.kind == HUBER else 2) * error.flatten(1).mean(1)


PLAIN = Distance()


def losses(
    network: Network,
    pictures: Sequence[LatentPicture],
    latents: Tensor,
    noise: Tensor,
    levels: Levels,
    distance: Distance = PLAIN,
    added: Tensor | None = None,
) -> Tensor:
    """How far each picture's prediction is from its target: [batch], fp32.

    latents, of the pictures, and noise: [batch, channels, ...] on the network's device.
    added: the noise that the network sees, where that is not the one it should find.
    """
    conditioning = network.encode(pictures)
    noised = levels.noised(latents, noise if added is None else added)
    predicted = network.predict(noised, levels, conditioning)
    return distance(predicted.float(), levels.target(latents, noise).float())
