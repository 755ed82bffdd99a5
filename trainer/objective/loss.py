"""What is minimized: how far a network's output is from what it should be on noised latents.

For a network that predicts noise: Ho et al. 2020, arXiv 2006.11239, equation 14.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from .network import Network


def losses(
    network: Network, latents: Tensor, captions: Sequence[str], noise: Tensor, sigmas: Tensor
) -> Tensor:
    """Mean squared error of each picture's prediction: [batch], fp32.

    latents and noise: [batch, channels, ...]; sigmas: [batch].
    """
    conditioning = network.encode(captions)
    predicted = network.predict(network.noised(latents, noise, sigmas), sigmas, conditioning)
    target = network.target(latents, noise, sigmas)
    return F.mse_loss(predicted.float(), target.float(), reduction="none").flatten(1).mean(1)
