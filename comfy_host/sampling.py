"""What ComfyUI's `model_sampling` says of noise levels, whatever the network predicts."""

import comfy.model_sampling
import torch
from torch import Tensor

from ..trainer.objective.levels import Levels

LEAST_SHARE = 1e-4  # of noise in a flow: at none, the output does not matter at all
_FLOWS = (comfy.model_sampling.CONST, comfy.model_sampling.COSMOS_RFLOW)


class NoiseLevels:
    """The noise levels that a MODEL was made for.

    Read from the model's own `model_sampling`, which nodes such as ModelSamplingDiscrete replace.
    """

    def __init__(self, sampling) -> None:
        self.sampling = sampling
        self.is_flow = isinstance(sampling, _FLOWS)
        # here, so that no step waits for the device
        self._table = sampling.sigmas.to("cpu", torch.float64, copy=True)

    def sigmas(self, u: Tensor) -> Tensor:
        """Sigmas [batch] of `u` [batch] in [0, 1), both float64 on the CPU.

        For a flow u is the share of noise; ComfyUI's own shift is for sampling and takes no part. For others
        it is a place in the table of sigmas, each of which the network saw as often as another.
        """
        if not self.is_flow:
            return self._table[(u * len(self._table)).long()]
        share = u.clamp(min=LEAST_SHARE)
        if isinstance(self.sampling, comfy.model_sampling.CONST):
            return share
        # Cosmos counts noise over signal
        return (share / (1 - share)).clamp(max=self._table[-1])

    def levels(self, u: Tensor) -> Levels:
        """What the network should make of noise at `u` [batch]."""
        sigmas = self.sigmas(u)
        one, zero = torch.ones_like(sigmas), torch.zeros_like(sigmas)
        sampling = self.sampling
        return Levels(
            sigmas=sigmas,
            # new tensors each time: ComfyUI adds into them
            of_latents=sampling.noise_scaling(sigmas, zero.clone(), one.clone(), False),
            of_noise=sampling.noise_scaling(sigmas, one.clone(), zero.clone(), False),
            of_noised=sampling.calculate_denoised(sigmas, zero, one),
            slope=sampling.calculate_denoised(sigmas, one, zero),
        )
