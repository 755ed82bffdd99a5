"""A job that can be done: what it trains on, and what it minimizes."""

from dataclasses import dataclass

from ..trainer.objective.objective import Objective
from .job import Job
from .prediction import Predicts
from .subject import Subject


@dataclass(frozen=True)
class Task:
    """A job that can be done."""

    subject: Subject
    predicts: Predicts
    objective: Objective

    @classmethod
    def of(cls, model, clip, vae, job: Job) -> "Task":
        """Refuses what cannot be done, before anything expensive begins.

        Raises `ModelError` for the model, `SettingError` for what was asked.
        """
        subject = Subject.of(model, clip, vae, job)
        predicts = Predicts.of(model, job.checkpoint)
        predicts.refuse_what_the_file_denies()
        return cls(subject, predicts, Objective.of(job.objective, subject.family.noise, predicts.used))
