"""A run that burns, for tests."""

from torch.nn import functional as F

from tests.unit.toy import ToyNetwork

# this stands for a d that overshot
BURNING = {
    "d0": 1e-2,
    "learning_rate": 10.0,
    "warmup_percent": 0.0,
    "growth_rate": 10.0,
    "bias_correction": False,
}


class Brittle(ToyNetwork):
    """What a LoRA adds to the UNet layer counts 30 times: it has to be small, and a large one destroys
    everything.
    """

    def predict(self, noised, levels, conditioning):
        base = F.conv2d(noised, self.unet_layer.weight, self.unet_layer.bias)
        return base + 30 * (self.unet_layer(noised) - base) + self.mix(conditioning)[:, :, None, None]
