"""How a folder of pictures is read: what Load Dataset shows."""

from dataclasses import dataclass

from ..errors import SettingError
from .declare import check_settings, setting

NO_FOLDER = "none"
SIZE_STEP = 64  # pixels; a UNet of the SD family halves its latents (8 pixels each) three times


@dataclass(frozen=True)
class FolderChoice:
    """Names of the folders that pictures are read from."""

    folder: str = setting(
        "",
        "A folder below ComfyUI's input folder. Captions are text files beside the pictures: cat.png,"
        " cat.txt. In a folder named 4_anything each picture is shown 4 times per epoch. The machine's"
        " owner can register other folders as dadapt_datasets in extra_model_paths.yaml.",
        max=1000,
    )
    heldout_folder: str = setting(
        NO_FOLDER,
        "A folder of pictures that are measured and never trained on, to see when the LoRA starts to"
        " overtrain. Use this or the share above, not both.",
        max=1000,
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class DatasetConfig:
    """How a folder of pictures is read."""

    trigger_word: str = setting(
        "",
        "A word that the model does not know yet, put before each caption ('fluent3d, red apple'). Write it"
        " in your prompt to call the LoRA. Leave it empty to train on the captions alone, which keeps more of"
        " what the model already knows of their words.",
        max=200,
    )
    resolution: int = setting(
        512,
        "Side of the square, in pixels, that a picture's area is brought to. Pictures keep their shape: they"
        " are sorted into buckets of this area. Choose what the model was made for: 512 for SD 1.5, 1024"
        " for SDXL and most newer ones.",
        min=SIZE_STEP,
        max=2048,
        step=SIZE_STEP,
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
        self._refuse_resolution_between_steps()

    def _refuse_resolution_between_steps(self) -> None:
        """Buckets have sides of whole steps: at 100 there would be no square one."""
        if self.resolution % SIZE_STEP:
            nearest = max(1, round(self.resolution / SIZE_STEP)) * SIZE_STEP
            raise SettingError(
                f"resolution: expected a multiple of {SIZE_STEP}, got {self.resolution}."
                f" The nearest is {nearest}."
            )
