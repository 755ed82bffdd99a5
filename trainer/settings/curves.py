"""The size of a picture of a run: what Training Curves shows."""

from dataclasses import dataclass

from .declare import check_settings, setting


@dataclass(frozen=True)
class CurvesConfig:
    """Width and height of the picture of a run's curves, in pixels."""

    width: int = setting(1000, "Width of the picture, in pixels.", min=300, max=4096)
    height: int = setting(700, "Height of the picture, in pixels.", min=300, max=4096)

    def __post_init__(self) -> None:
        check_settings(self)
