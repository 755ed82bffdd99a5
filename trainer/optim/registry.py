"""The optimizers of a run by name.

Adding one is a class beside this file, an entry in ALGORITHMS, and a preset.
"""

from ..packages import package
from ..settings.optimizer import OptimizerConfig
from .adamw import AdamW
from .base import Parts, RunOptimizer
from .dadapt_run import FastDAdapt, ReferenceDAdapt
from .prodigy import Prodigy, ProdigyScheduleFree


def build_optimizer(config: OptimizerConfig, parts: Parts, steps: int) -> RunOptimizer:
    """The preset's optimizer for a run of `steps`, with one param group per part. `config` is resolved."""
    return ALGORITHMS[config.algorithm](config, parts, steps)


def _dadapt(config: OptimizerConfig, parts: Parts, steps: int) -> RunOptimizer:
    return {"fast": FastDAdapt, "reference": ReferenceDAdapt}[config.implementation](config, parts, steps)


def refuse_missing_package(config: OptimizerConfig) -> None:
    """Raise `SettingError` if the preset needs a package that is not installed.

    Asked before a run, so that nobody waits for the encoding of pictures first.
    """
    if config.implementation == "reference":
        package("dadaptation", "The implementation 'reference'")
    elif config.algorithm in PACKAGES:
        package(PACKAGES[config.algorithm], f"The preset {config.preset!r}")


PACKAGES = {"prodigy": "prodigyopt", "prodigy_schedule_free": "prodigyplus"}
ALGORITHMS = {
    "dadapt": _dadapt,
    "prodigy": Prodigy,
    "prodigy_schedule_free": ProdigyScheduleFree,
    "adamw": AdamW,
}
