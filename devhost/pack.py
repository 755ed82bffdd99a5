"""Makes the pack importable outside of ComfyUI, as the one package that ComfyUI would load under its path."""

import importlib.util
import sys

from .layout import CHECKOUT

NAME = "comfyui_dadapt_lora"


def load_pack() -> None:
    """After this, `comfyui_dadapt_lora.trainer` and the pack's other packages can be imported.

    It imports nothing heavy itself.
    """
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            NAME, CHECKOUT / "__init__.py", submodule_search_locations=[str(CHECKOUT)]
        )
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
