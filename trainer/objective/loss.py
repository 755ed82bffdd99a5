"""What is minimised: how well the network predicts the noise in a noised latent (Ho et al. 2020, arXiv
2006.11239, eq. 14).
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from .network import Network


def losses(
    network: Network, latents: Tensor, captions: Sequence[str], noise: Tensor, timesteps: Tensor
) -> Tensor:
    """Mean squared error of each picture's prediction, [batch], fp32."""
    text = network.encode_text(captions)
    predicted = network.predict(network.noised(latents, noise, timesteps), timesteps, text)
    target = network.target(latents, noise, timesteps)
    return F.mse_loss(predicted.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
