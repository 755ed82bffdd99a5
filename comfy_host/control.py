"""What the person at the graph wants of a run: ComfyUI's Cancel."""

import comfy.model_management

from ..trainer.run.control import Asked, Control


class ComfyUIControl(Control):
    """Hears ComfyUI's Cancel, and raises what its executor expects then."""

    cancels = (comfy.model_management.InterruptProcessingException,)

    def ask(self) -> Asked:
        comfy.model_management.throw_exception_if_processing_interrupted()
        return Asked.GO
