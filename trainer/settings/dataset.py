"""How a folder of pictures is read: what Load Dataset shows."""

from dataclasses import dataclass

from .declare import check_settings, setting


@dataclass(frozen=True)
class DatasetConfig:
    """How a folder of pictures is read."""

    trigger_word: str = setting(
        "",
        "A word that the model does not know yet, put before each caption ('fluent3d, red apple'). Write it"
        " in your prompt to call the LoRA. Leave it empty to train on the captions alone, which keeps more of"
        " what the model already knows of their words.",
    )
    resolution: int = setting(
        512,
        "Side of the square, in pixels, that a picture's area is brought to. Pictures keep their shape: they"
        " are sorted into buckets of this area. Choose what the model was made for: 512 for SD 1.5.",
        min=64,
        max=2048,
        step=64,
    )
    heldout_share: float = setting(
        0.0,
        "Share of the pictures that is not trained on but measured, to see when the LoRA starts to overtrain."
        " 0 is off; 0.1 is sensible from about 30 pictures on. The same pictures are chosen each time.",
        min=0.0,
        max=0.5,
        step=0.05,
    )
    broken_pictures: str = setting(
        "stop",
        "What to do when a picture cannot be read. 'stop' names all of them and trains nothing; 'skip' leaves"
        " them out and says so in the report.",
        choices=("stop", "skip"),
    )

    def __post_init__(self) -> None:
        check_settings(self)
