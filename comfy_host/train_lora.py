"""One run of Train: ComfyUI's MODEL, CLIP and VAE and a data set in; the LoRA and the run's report out."""

from collections.abc import Iterable

from ..trainer.record.folder import removed_if_no_step
from ..trainer.record.report import Report
from ..trainer.record.run_record import RunRecord
from ..trainer.run.events import Listener
from ..trainer.run.plan import Plan
from ..trainer.run.training import Training
from .dry_step import ready
from .job import Job
from .lora_model import LoraModel
from .output_files import new_run_place, runs_on_disk
from .prepare import prepare
from .progress import Progress
from .recording import facts_of, output_of, tell_before_the_run, what_was_found
from .task import Task


def train_lora(
    model, clip, vae, job: Job, progress: Progress, watchers: Iterable[Listener] = ()
) -> tuple[LoraModel, Report]:
    """Trains a LoRA on ComfyUI's MODEL and CLIP, which are left as they were found, also after an error.

    What was trained until an error or a cancel is in the run's folder. `watchers` hear the run's events.
    """
    earlier_runs = runs_on_disk()
    # first, because that it cannot be written to has to be said before hours of training
    place = new_run_place(job.dataset.name)
    with removed_if_no_step(place):
        task = Task.of(model, clip, vae, job)
        prepared = prepare(task.subject, job, progress)
        with ready(prepared, job, task.objective, progress) as run:
            plan = Plan.of(run.work)
            facts = facts_of(run.work, plan, prepared, job)
            found = [*what_was_found(facts, run, prepared), *earlier_runs]
            record = RunRecord(facts, place, found, [progress, *watchers], progress.finished)
            tell_before_the_run(record, prepared, progress, [*task.predicts.warnings(), *run.notices])
            Training.of(run.work, plan, record.hear, progress.control, record.owners()).run()
    return output_of(record, prepared), record.report
