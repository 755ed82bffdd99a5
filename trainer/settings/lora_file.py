"""The file that a LoRA is saved as: what Save LoRA shows."""

from dataclasses import dataclass

from ..precision import DTYPES
from .declare import check_settings, setting

ADD_NUMBER, OVERWRITE = "add a number", "overwrite"


@dataclass(frozen=True)
class LoraFileConfig:
    """Name and dtype of a LoRA file, and what happens to a file of that name."""

    filename: str = setting(
        "my_lora", "Name of the file, without ending. 'styles/my_lora' makes a subfolder.", max=1000
    )
    dtype: str = setting(
        "fp16",
        "fp16 is what most people share: half the size of fp32, with no visible difference.",
        choices=tuple(DTYPES),
    )
    existing_file: str = setting(
        ADD_NUMBER,
        "What to do when there is a file of that name: 'add a number' writes my_lora_2, 'overwrite' replaces"
        " the file.",
        choices=(ADD_NUMBER, OVERWRITE),
    )

    def __post_init__(self) -> None:
        check_settings(self)
