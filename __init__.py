"""DAdapt LoRA: trains LoRAs inside ComfyUI, without a learning rate to find.

nodes/ -> comfy_host/ -> trainer/: imports go this way only. Nothing heavy is imported before ComfyUI asks for
the nodes.
"""

import logging

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """The pack's nodes, for ComfyUI."""
    try:
        from .nodes.extension import DAdaptLoRAExtension
    except Exception:
        # ComfyUI logs the message alone; without the traceback nobody could say what is missing
        logging.getLogger(__name__).exception("DAdapt LoRA could not be loaded")
        raise
    return DAdaptLoRAExtension()
