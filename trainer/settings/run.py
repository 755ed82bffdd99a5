"""Length, batch, seed and precision of one run: what Train shows."""

from dataclasses import dataclass

from .declare import check_settings, setting


@dataclass(frozen=True)
class RunConfig:
    """Length, batch, seed and precision of one run."""

    duration: int = setting(
        1000,
        "How long to train, in the unit below. 1000 to 2000 steps at batch 1 suit 20 to 50 pictures; fewer"
        " with larger batches.",
        min=1,
        max=1_000_000,
    )
    duration_unit: str = setting(
        "steps",
        "'steps' counts batches. 'epochs' counts how often each picture is seen, with its repeats.",
        choices=("steps", "epochs"),
    )
    batch_size: int = setting(
        1,
        "Pictures per step. More is smoother and needs more memory; with 2 to 4, fewer steps are needed.",
        min=1,
        max=64,
    )
    seed: int = setting(0, "The same seed gives the same LoRA on the same machine.", min=0, max=2**53 - 1)
    precision: str = setting(
        "auto",
        "The precision of the network's computations while it trains; the LoRA itself is always fp32. 'auto'"
        " takes the precision that the model was loaded in where that has 16 bits, else bf16 where the"
        " hardware is fast at it, else fp32.",
        choices=("auto", "fp32", "bf16", "fp16"),
    )

    measure_every: int = setting(
        0,
        "Steps between two measurements of the held-out pictures. 0 is auto: 4 to 20 times per run, so"
        " that measuring takes about a fifth of the time that training takes. Has no effect without held-out"
        " pictures at Load Dataset.",
        min=0,
        max=1_000_000,
    )
    hand_on: str = setting(
        "best",
        "Which LoRA Train outputs: 'best' is the one with the lowest held-out loss, 'last' the one of the"
        " last step. Without held-out pictures both are the last. The other one is saved in the run's"
        " folder.",
        choices=("best", "last"),
    )
    save_every: int = setting(
        0,
        "Saves an intermediate LoRA every so many steps or epochs (the unit of the duration) in the run's"
        " folder, where Load LoRA lists it. 0 is off.",
        min=0,
        max=1_000_000,
    )
    checkpointing: str = setting(
        "auto",
        "Gradient checkpointing. 'on' computes each block of the network again in the backward pass instead"
        " of storing what is inside it: about a third slower, with a fraction of the memory. The LoRA is the"
        " same. 'auto' switches it on where a step would not fit into memory without it.",
        choices=("auto", "on", "off"),
    )
    pictures_at_once: int = setting(
        0,
        "How many pictures of a batch are computed at once; 0 is all of them. Fewer need less memory and more"
        " time, and the LoRA is the same. Where a step does not fit into memory, fewer are taken by"
        " themselves.",
        min=0,
        max=64,
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def most_at_once(self) -> int:
        """Pictures that are computed at once, at most."""
        return min(self.pictures_at_once or self.batch_size, self.batch_size)
