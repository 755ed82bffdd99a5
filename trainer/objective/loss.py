"""What is minimized: how far a network's output is from what it should be on noised latents.

For a network that predicts noise: Ho et al. 2020, arXiv 2006.11239, equation 14.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from ..data.latents import LatentPicture
from .levels import Levels
from .network import Network


def losses(
    network: Network, pictures: Sequence[LatentPicture], latents: Tensor, noise: Tensor, levels: Levels
) -> Tensor:
    """Mean squared error of each picture's prediction: [batch], fp32.

    latents, of the pictures, and noise: [batch, channels, ...] on the network's device.
    """
    conditioning = network.encode(pictures)
    predicted = network.predict(levels.noised(latents, noise), levels, conditioning)
    target = levels.target(latents, noise)
    return F.mse_loss(predicted.float(), target.float(), reduction="none").flatten(1).mean(1)
