"""Size of the LoRA and the layers that it adapts: what LoRA Config shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import SettingError, shown
from .declare import check_settings, setting

SAME_AS_DIM = "same as dim"
ATTENTION, ALL = "attention", "all"
AUTO = "auto"


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
        "Adapt the text encoder, the part that reads the prompt, where that is usual: the CLIP encoders of"
        " SD 1.5, SD 2 and SDXL. On: trigger words are learned better. Off: faster, less memory, and the LoRA"
        " disturbs other prompts less. Which of several train is chosen at text_encoders.",
    )
    layers: str = setting(
        ATTENTION,
        "Which layers of the UNet are adapted. 'attention': attention and feed-forward of its transformer"
        " blocks, as in most LoRAs. 'all': every linear layer and convolution, known as LoCon. It learns more"
        " of a texture or a brush stroke, trains more slowly, and makes a file several times larger.",
        choices=(ATTENTION, ALL),
    )
    text_encoders: str = setting(
        AUTO,
        "Which text encoders train, by ComfyUI's names with commas between them: clip_l, clip_g, t5xxl."
        " 'auto' takes those that are usual for the model, which for Flux, Qwen-Image and other newer models"
        " is none. 'all' takes all.",
        max=200,
    )
    conv_dim: int = setting(
        0,
        "Rank of 3x3 convolutions, which is also their alpha. 0: with layers 'attention' they are not"
        " adapted, with 'all' they have dim. 1 to 8 is usual. Models without convolutions ignore it.",
        min=0,
        max=512,
    )
    include: str = setting(
        "",
        "Adapts only those of the layers above whose name contains this: attn1, or blocks.1*.attn. A * stands"
        " for anything; several are separated by commas. Names are ComfyUI's; Train says how many are left."
        " Empty takes all. Text encoders are not asked.",
        max=1000,
    )
    exclude: str = setting(
        "",
        "Leaves out those of the layers above whose name contains this, written as at include.",
        max=1000,
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

    def text_encoders_of(self, available: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
        """Which of a model's text encoders train; `usual` are those that do by default.

        Raises `SettingError` for a name that the model does not have.
        """
        if not self.train_text_encoder:
            return ()
        asked = [name.strip() for name in self.text_encoders.split(",") if name.strip()]
        if asked == [AUTO]:
            return tuple(name for name in available if name in usual)
        if asked == [ALL]:
            return tuple(available)
        unknown = [name for name in asked if name not in available]
        if unknown or not asked:
            raise SettingError(
                f"text encoders: expected {AUTO!r}, {ALL!r} or names from {', '.join(available)}, which this"
                f" model has, got {shown(self.text_encoders)}."
            )
        return tuple(name for name in available if name in asked)
