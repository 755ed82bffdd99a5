"""A run with everything that can be lost, for tests of going on with one."""

from tests.unit.run.burning import Brittle
from tests.unit.toy import ToyNetwork, adapters_of, toy_grid, training

STEPS = 24


def begun(settings, tell=None):
    """A run with everything that can be lost: held-out pictures, a burn guard, batches of two sizes."""
    settings = dict(settings)
    network = Brittle() if settings.pop("network", "") == "brittle" else ToyNetwork()
    adapters = adapters_of(network)
    one = training(
        network,
        adapters,
        steps=STEPS,
        seed=5,
        heldout=toy_grid(network, samples=16),
        measure_every=6,
        tell=tell,
        **settings,
    )
    return one, adapters
