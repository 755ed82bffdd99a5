"""The record of a run: what it says of the model, of the graph before it, and of what it was given."""

from collections.abc import Iterable
from datetime import datetime, timezone

from ..trainer.adapters.lora import count_values, layers_by_part
from ..trainer.data.problems import problems_of
from ..trainer.record.facts import ModelFacts, RunFacts, Setup, what_ran
from ..trainer.record.run_record import RunRecord
from ..trainer.run.events import Notice
from ..trainer.run.plan import Plan
from ..trainer.run.work import Work
from .dry_step import Ready
from .job import Job
from .layers import key_map
from .lora_model import LoraModel
from .prepared import Prepared
from .progress import Progress
from .upstream import found_upstream


def facts_of(work: Work, plan: Plan, prepared: Prepared, job: Job) -> RunFacts:
    """What is the same of every LoRA of the run."""
    return RunFacts(
        model=ModelFacts(
            prepared.subject.family,
            job.base_model,
            prepared.network.text_encoder.clip_skip,
            tuple(work.parts),
        ),
        dataset=job.dataset,
        lora=job.lora,
        recipe=plan.recipe,
        objective=plan.objective,
        run=job.run,
        precision=work.precision,
        steps=plan.steps,
        steps_per_epoch=work.order.steps_per_epoch,
        started=datetime.now(timezone.utc),
    )


def what_was_found(facts: RunFacts, run: Ready, prepared: Prepared) -> list[str]:
    """Lines for the report: what the run found, and what it made of it."""
    return [*what_ran(facts, _setup(run, prepared)), f"training {run.need}", *_upstream(prepared)]


def tell_before_the_run(
    record: RunRecord, prepared: Prepared, progress: Progress, warnings: Iterable[str]
) -> None:
    """What a person should hear before the first step: `warnings`, and what there is beside them."""
    for problem in problems_of(record.facts.dataset):
        record.hear(Notice(0, problem))
    record.tell_of_choices()
    for warning in warnings:
        record.hear(Notice(0, warning))
    for line in _upstream(prepared):
        progress.hear(Notice(0, line))  # the report has it among what was found


def output_of(record: RunRecord, prepared: Prepared) -> LoraModel:
    """The LoRA that a finished run outputs, between two nodes."""
    keys = key_map(prepared.network.patcher, prepared.network.text_encoder.clip)
    return LoraModel(record.output.tensors, record.output_metadata, keys)


def _setup(run: Ready, prepared: Prepared) -> Setup:
    return Setup(
        weights=str(prepared.network.weight_dtype).removeprefix("torch."),
        device=str(prepared.network.device),
        layers=layers_by_part(run.work.adapters),
        values=count_values(run.work.adapters),
        checkpointing=run.need.checkpointing,
        measured=run.work.heldout is not None,
    )


def _upstream(prepared: Prepared) -> list[str]:
    network = prepared.network
    return list(found_upstream(network.patcher, network.text_encoder.clip, network.text_encoder.clip_skip))
