"""Training Curves: what a run did, as a picture."""

from typing import Any

from comfy_api.latest import io

from ..comfy_host.images import to_image
from ..trainer.record.curves import draw_report
from ..trainer.record.report import Report
from ..trainer.settings.curves import CurvesConfig
from . import schema
from .checks import Refusal, refusal, refuse_wrong_links


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
                *schema.inputs_of(CurvesConfig),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="For Preview Image or Save Image.")],
        )

    @classmethod
    def validate_inputs(cls, input_types: dict[str, str], **inputs: Any) -> bool | Refusal:
        return refusal(inputs, input_types, CurvesConfig, links=["report"])

    @classmethod
    def execute(cls, report: Report, **size: Any) -> io.NodeOutput:
        refuse_wrong_links(report=report)
        config = CurvesConfig(**size)
        return io.NodeOutput(to_image(draw_report(report, (config.width, config.height))))
