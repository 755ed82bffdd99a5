"""Size of the LoRA and the layers that it adapts: what LoRA Config shows."""

from dataclasses import dataclass

from ..errors import SettingError, shown
from ..parts import TEXT_ENCODER, UNET
from .declare import check_settings, setting

SAME_AS_DIM = "same as dim"
ATTENTION = "attention"


@dataclass(frozen=True)
class LoraConfig:
    """Size of the LoRA and the parts of the model that it adapts. alpha is dim: there is no other choice."""

    dim: int = setting(
        16,
        "Rank of the LoRA: how much it can hold, and how large its file is. 8 to 16 for a character or an"
        " object, 16 to 32 for a style, rarely more than 64.",
        min=1,
        max=512,
    )
    alpha: str | float = setting(
        SAME_AS_DIM,
        "Always the same as dim. D-Adaptation finds the rate by itself; an alpha below dim does not dampen"
        " it, it multiplies it and makes the result worse.",
    )
    train_unet: bool = setting(
        True, "Adapt the UNet, the part that draws. Leave it on unless you only want to teach words."
    )
    train_text_encoder: bool = setting(
        True,
        "Adapt the text encoder, the part that reads the prompt. On: trigger words are learned better. Off:"
        " faster, less memory, and the LoRA disturbs other prompts less.",
    )
    layers: str = setting(
        ATTENTION,
        "Which layers of the UNet are adapted. 'attention': those of its transformer blocks, as in most"
        " LoRAs. 'all': every linear layer and convolution, known as LoCon. It learns more of a texture or a"
        " brush stroke, trains more slowly, and makes a file several times larger.",
        choices=(ATTENTION, "all"),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not (isinstance(self.alpha, str | int | float) and self.alpha in (SAME_AS_DIM, self.dim)):
            raise SettingError(
                f"alpha: expected {SAME_AS_DIM!r} (here {self.dim}), got {shown(self.alpha)}. With"
                " D-Adaptation another alpha does not dampen the training: the estimated rate grows to cancel"
                " it and overshoots (d x17 at alpha 1, dim 128). Leave alpha at the same value as dim; to"
                " train more gently, lower the learning rate at DAdapt Optimizer (0.5 is half speed)."
            )
        if not (self.train_unet or self.train_text_encoder):
            raise SettingError(
                "Nothing to train: both 'train unet' and 'train text encoder' are off. Switch at least"
                " one on."
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """The trained parts, of `parts.PARTS`."""
        chosen = {UNET: self.train_unet, TEXT_ENCODER: self.train_text_encoder}
        return tuple(part for part, trained in chosen.items() if trained)
