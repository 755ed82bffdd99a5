"""ComfyUI's modules in this process, without its server, for code that calls them directly.

Call `start_comfyui` before anything imports torch's or ComfyUI's modules, and once per process.
"""

import asyncio
import sys
from pathlib import Path


def start_comfyui(
    comfyui: Path, base: Path, device: str = "cpu", *, server: bool = True, pytorch_attention: bool = True
) -> None:
    """After this, `comfy`, `folder_paths`, ... can be imported. `base` is ComfyUI's base directory.

    device: "cpu", or "cuda" for what ComfyUI chooses.
    server: make the PromptServer that progress is sent through. Nothing listens: what is sent waits for ever.
    pytorch_attention: use PyTorch's, as ComfyUI does by itself on a GPU. What it chooses on a CPU writes in
        place, so that its own trainer fails there.
    """
    sys.path.insert(0, str(comfyui))  # before this checkout, whose nodes/ would hide ComfyUI's nodes.py
    arguments = sys.argv
    sys.argv = ["main.py", *_options(base, device, pytorch_attention)]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args
        import utils.extra_config  # noqa: F401  before anything else takes the name "utils"
    finally:
        sys.argv = arguments
    if server:
        from server import PromptServer

        PromptServer(asyncio.new_event_loop())


def _options(base: Path, device: str, pytorch_attention: bool) -> list[str]:
    options = ["--base-directory", str(base)]
    if pytorch_attention:
        options.append("--use-pytorch-cross-attention")
    if device == "cpu":
        options.append("--cpu")
    return options
