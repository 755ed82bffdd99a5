"""Train: trains the LoRA on the model that is in the graph."""

from typing import Any

from comfy_api.latest import io

from ..comfy_host.job import OF_THE_FAMILY, Job
from ..comfy_host.lora_model import apply_lora
from ..comfy_host.progress import Progress
from ..comfy_host.train_lora import train_lora
from ..comfy_host.upstream import checkpoint_file, checkpoint_name
from ..trainer.data.dataset import Dataset
from ..trainer.settings.lora import LoraConfig
from ..trainer.settings.objective import ObjectiveConfig
from ..trainer.settings.optimizer import OptimizerConfig
from ..trainer.settings.run import RunConfig
from . import schema
from .checks import Refusal, refusal, refuse_wrong_links

LINKS = ("model", "clip", "vae", "dataset", "lora_config", "optimizer", "objective")


class Train(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            node_id="DAdaptTrain",
            display_name="Train (DAdapt LoRA)",
            description=(
                "Trains a LoRA on the connected model, on the device it is loaded on, and outputs the model"
                " with the LoRA, ready for a KSampler."
            ),
            search_aliases=["lora training", "finetune"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "The model to train on: of any family that draws from text. LoRAs that are applied"
                        " before this node are a part of it, and are not in the new LoRA."
                    ),
                ),
                io.Clip.Input("clip", tooltip="Its text encoders. CLIP Set Last Layer is honoured."),
                io.Vae.Input("vae", tooltip="Its VAE, which encodes the pictures once, before training."),
                schema.Dataset.Input("dataset", tooltip="From Load Dataset."),
                schema.LoraConfig.Input("lora_config", tooltip="From LoRA Config."),
                schema.Optimizer.Input("optimizer", tooltip="From DAdapt Optimizer."),
                schema.Objective.Input(
                    "objective",
                    optional=True,
                    tooltip="From Training Objective. Without it, as the model's family is usually trained.",
                ),
                *schema.inputs_of(RunConfig),
            ],
            outputs=_outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, input_types: dict[str, str], **inputs: Any) -> bool | Refusal:
        return refusal(inputs, input_types, RunConfig, links=LINKS)

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        clip: io.Clip.Type,
        vae: io.Vae.Type,
        dataset: Dataset,
        lora_config: LoraConfig,
        optimizer: OptimizerConfig,
        objective: ObjectiveConfig = OF_THE_FAMILY,
        **run: Any,
    ) -> io.NodeOutput:
        refuse_wrong_links(
            model=model,
            clip=clip,
            vae=vae,
            dataset=dataset,
            lora_config=lora_config,
            optimizer=optimizer,
            objective=objective,
        )
        graph = (cls.hidden.prompt, cls.hidden.unique_id)
        job = Job(
            dataset=dataset,
            lora=lora_config,
            recipe=optimizer,
            run=RunConfig(**run),
            base_model=checkpoint_name(*graph),
            checkpoint=checkpoint_file(*graph),
            objective=objective,
        )
        lora, report = train_lora(model, clip, vae, job, Progress(cls.hidden.unique_id))
        return io.NodeOutput(
            *apply_lora(model, clip, lora), lora, report, ui={"dadapt_report": [report.summary()]}
        )


def _outputs() -> list[io.Output]:
    return [
        io.Model.Output(
            display_name="MODEL", tooltip="The model with the LoRA at strength 1, for a KSampler."
        ),
        io.Clip.Output(
            display_name="CLIP",
            tooltip="The text encoder with the LoRA at strength 1, for CLIP Text Encode.",
        ),
        schema.LoraModel.Output(
            display_name="LORA_MODEL",
            tooltip="The LoRA itself, for Save LoRA or ComfyUI's Load LoRA Model.",
        ),
        schema.Report.Output(
            display_name="REPORT",
            tooltip="What happened at each step; also for ComfyUI's Plot Loss Graph.",
        ),
    ]
