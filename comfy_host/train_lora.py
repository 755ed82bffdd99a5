"""One run of Train: ComfyUI's MODEL, CLIP and VAE and a data set in; the LoRA and the run's report out."""

from collections.abc import Iterable

from ..trainer.record.folder import removed_if_no_step
from ..trainer.record.report import Report
from ..trainer.run.events import Listener
from ..trainer.run.training import Training
from .job import Job
from .layers import key_map
from .loading import out_of_memory_explained
from .lora_model import LoraModel
from .output_files import new_run_place
from .prepare import prepare
from .progress import Progress
from .recording import record_of, tell_what_was_found
from .subject import Subject


def train_lora(
    model, clip, vae, job: Job, progress: Progress, watchers: Iterable[Listener] = ()
) -> tuple[LoraModel, Report]:
    """Trains a LoRA on ComfyUI's MODEL and CLIP, which are left as they were found, also after an error.

    What was trained until an error or a cancel is in the run's folder. `watchers` hear the run's events.
    """
    # first, because that it cannot be written to has to be said before hours of training
    place = new_run_place(job.dataset.name)
    with removed_if_no_step(place):
        prepared = prepare(Subject.of(model, clip, vae, job), job, progress)
        with prepared.entered(), out_of_memory_explained():
            work = prepared.work(job)
            record = record_of(work, prepared, job, place, progress, watchers)
            tell_what_was_found(record, prepared, progress)
            Training.of(work, record.hear, progress.control).run()
    keys = key_map(prepared.network.patcher, prepared.network.text_encoder.clip)
    return LoraModel(record.output.tensors, record.output_metadata, keys), record.report
