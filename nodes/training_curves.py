"""Training Curves: what a run did, as a picture."""

from comfy_api.latest import io

from ..comfy_host.images import to_image
from ..trainer.record.curves import draw_report
from . import schema


class TrainingCurves(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            node_id="DAdaptTrainingCurves",
            display_name="Training Curves (DAdapt LoRA)",
            description=(
                "Draws loss, held-out loss with its best step, and d·lr of both parts over the steps of a"
                " run."
            ),
            search_aliases=["plot loss", "learning rate curve"],
            inputs=[
                schema.ReportOnly.Input("report", tooltip="From Train."),
                io.Int.Input("width", default=1000, min=300, max=4096, tooltip="Of the picture, in pixels."),
                io.Int.Input("height", default=700, min=300, max=4096, tooltip="Of the picture, in pixels."),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="For Preview Image or Save Image.")],
        )

    @classmethod
    def execute(cls, report, width, height) -> io.NodeOutput:
        return io.NodeOutput(to_image(draw_report(report, (width, height))))
