"""Named recipes: what one click at DAdapt Optimizer chooses. Adding a preset is adding an entry.

`steady` and the figures in the lines of help are measured: benchmarks/README.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

AUTO_GROWTH = 0.0
NO_GROWTH_LIMIT = 10.0
_OF_D = frozenset({"d0", "growth_rate", "bias_correction"})
_OF_OUR_STEP = frozenset({"implementation", "decouple", "d_cap", "freeze_d_percent", "s_in_bf16"})
_OF_PARTS = frozenset({"stop_unet_percent", "stop_text_encoder_percent"})
_AVERAGE = frozenset({"ema"})


@dataclass(frozen=True)
class Preset:
    """An optimizer, the settings that the preset fixes, and the fields of the node that it uses.

    Those that all presets use come on top.
    """

    help: str
    algorithm: str  # in optim.registry.ALGORITHMS
    fields: frozenset[str]
    settings: Mapping[str, object] = field(default_factory=dict)
    warning: str = ""  # for the report of every run


PRESETS: dict[str, Preset] = {
    "guide 2023": Preset(
        "the recipe of the guide, every field as it stands, with the safeguards that keep it from burning",
        algorithm="dadapt",
        fields=_OF_D | _OF_OUR_STEP | _OF_PARTS | _AVERAGE,
    ),
    "steady": Preset(
        "the guide with a cosine schedule: it ends where it is best, also when the run is too long",
        algorithm="dadapt",
        fields=_OF_D | _OF_OUR_STEP | _OF_PARTS | _AVERAGE,
        settings={"schedule": "cosine"},
    ),
    "Prodigy": Preset(
        "Prodigy as its authors advise it for diffusion models: bias correction, safeguarded warmup, cosine",
        algorithm="prodigy",
        fields=_AVERAGE | {"d0", "d_cap"},
        settings={"schedule": "cosine", "bias_correction": True, "growth_rate": NO_GROWTH_LIMIT},
    ),
    "Prodigy + schedule-free": Preset(
        "Prodigy that averages as it goes instead of following a schedule, with d frozen after a fifth of"
        " the run",
        algorithm="prodigy_schedule_free",
        fields=frozenset({"d0", "d_cap"}),
        settings={"schedule": "constant", "warmup_percent": 0.0, "freeze_d_percent": 20.0, "beta2": 0.99},
    ),
    "AdamW": Preset(
        "a fixed rate that you choose at adamw_rate, as the baseline to compare with",
        algorithm="adamw",
        fields=_OF_PARTS | _AVERAGE | {"adamw_rate"},
    ),
    "as published": Preset(
        "D-Adaptation exactly as its authors shipped it, without any safeguard; on short runs it often"
        " destroys the LoRA",
        algorithm="dadapt",
        fields=frozenset({"d0", "decouple", "implementation"}),
        settings={"bias_correction": False, "growth_rate": NO_GROWTH_LIMIT, "burn_guard": False},
        warning=(
            "the optimizer ran as published, without a safeguard, which often destroys the LoRA in its first"
            " 50 steps"
        ),
    ),
}
