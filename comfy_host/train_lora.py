"""One run of Train: the host's MODEL, CLIP and VAE and a data set in; the LoRA and the run's report out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone

import comfy.model_management

from ..trainer.adapters.file import lora_tensors
from ..trainer.adapters.hooks import attached
from ..trainer.adapters.lora import LoraAdapter, new_adapter
from ..trainer.data.latents import LatentPicture
from ..trainer.data.order import batches_per_epoch
from ..trainer.data.problems import problems_of
from ..trainer.layers.checkpointing import checkpointed
from ..trainer.layers.frozen import save_memory
from ..trainer.objective.grid import LossGrid
from ..trainer.record.metadata import RunFacts, training_metadata
from ..trainer.record.report import Report
from ..trainer.run import advice
from ..trainer.run.events import (
    BestSoFar,
    Event,
    HeldoutLoss,
    KeptLora,
    Measuring,
    Notice,
    SafetyCopy,
    SavedOnTheWay,
    StepRecord,
)
from ..trainer.run.heldout import best_of
from ..trainer.run.seeds import Generators
from ..trainer.run.training import total_steps, train
from ..trainer.settings.presets import PRESETS
from .inference_tensors import trainable
from .layers import TargetLayer, key_map
from .loading import out_of_memory_explained
from .lora_model import LoraModel
from .prepare import Job, Prepared, prepared_for
from .progress import Progress
from .run_folder import RunFolder
from .upstream import found_upstream

FULL = 0.9  # share of batch_size, below which the report says so
HELDOUT_SEED = 0  # one grid for all runs, so that their held-out losses can be compared


def train_lora(model, clip, vae, job: Job, progress: Progress) -> tuple[LoraModel, Report]:
    """Trains a LoRA on host MODEL and CLIP, which are left as they were found, also after an error or a
    cancel.

    What was trained until an error or a cancel is in the run's folder.
    """
    folder = RunFolder(
        job.dataset.name
    )  # first: that it cannot be written to has to be said before hours of training
    with folder.gone_if_empty():
        prepared = prepared_for(model, clip, vae, job, progress)
        network = prepared.network
        with trainable(network.modules), network.ready(), save_memory(network.layers()):
            run = _Run(job, prepared, folder, progress)
            checkpointed_blocks = network.blocks(prepared.family) if prepared.checkpointing else []
            with (
                out_of_memory_explained(),
                attached(run.adapters),
                checkpointed(checkpointed_blocks),
                run.kept_on_disk(),
            ):
                return run.go()


class _Run:
    """One run on modules that are loaded and ready."""

    def __init__(self, job: Job, prepared: Prepared, folder: RunFolder, progress: Progress) -> None:
        self.job, self.prepared, self.folder, self.progress = job, prepared, folder, progress
        self.network, self.pictures = prepared.network, prepared.pictures
        self.model, self.clip = self.network.patcher, self.network.text_encoder.clip
        self.steps = total_steps(job.run, self.pictures)
        self.adapters = self._new_adapters(prepared.layers)
        self.grid = self._loss_grid(prepared.heldout)
        self.heldout: list[HeldoutLoss] = []
        self.best: KeptLora | None = None
        self.best_is_kept = False  # as best.safetensors
        self.notices: list[Notice] = []
        self.keys = key_map(self.model, self.clip)
        self.facts = RunFacts(
            family=prepared.family,
            base_model=job.base_model,
            clip_skip=self.network.text_encoder.clip_skip,
            dataset=job.dataset,
            latents=self.pictures,
            lora=job.lora,
            recipe=job.recipe,
            run=job.run,
            precision=str(prepared.precision),
            steps=self.steps,
            started=datetime.now(timezone.utc),
        )

    def go(self) -> tuple[LoraModel, Report]:
        for problem in problems_of(self.job.dataset):
            self._on_event(Notice(0, problem))
        for line in self._upstream():
            self.progress.notice(Notice(0, line))  # the report has it among what was found
        self.progress.phase("training", self.steps)
        result = train(
            self.network,
            self.pictures,
            self.adapters,
            self.job.recipe,
            self.job.run,
            self.prepared.precision,
            self._on_event,
            self.grid,
        )
        last = self._last()
        chosen = self.best if self.best and self.job.run.hand_on == "best" else last
        lora = self._lora(chosen)
        self._keep(chosen, last)
        warnings, found = list(self._warnings(result)), list(self._found())
        report = Report(
            result, self.folder.records, self.heldout, found, warnings, chosen.record.step, self.folder.name
        )
        self.folder.end({"ended": "finished", **report.summary()})
        self.progress.finished(report.text)
        return lora, report

    @contextmanager
    def kept_on_disk(self) -> Iterator[None]:
        """Whatever ends the run inside, a cancel or an error, what was trained until then is saved first."""
        try:
            yield
        except BaseException as reason:  # the host's interrupt is a BaseException in newer versions
            if self.folder.records:
                self._save_unfinished(reason)
            raise

    def _save_unfinished(self, reason: BaseException) -> None:
        """The LoRA as it is, the best one so far, and what was measured."""
        last = self._last()
        is_kept = self._keep(last, last)
        cancelled = isinstance(reason, comfy.model_management.InterruptProcessingException)
        report = {
            "ended": "cancelled" if cancelled else "failed",
            "step": last.record.step,
            "reason": f"{type(reason).__name__}: {reason}",
            "heldout": [[measured.step, measured.loss] for measured in self.heldout],
            "best_step": self.best.record.step if self.best else None,
            "notices": [notice.text for notice in self.notices],
        }
        self.folder.end(report)
        self.progress.finished("\n".join(self._unfinished(report["ended"], last, is_kept)))

    def _unfinished(self, ended: str, last: KeptLora, is_kept: bool) -> Iterator[str]:
        yield f"{ended} after step {last.record.step} of {self.steps}"
        if is_kept:
            yield f"the LoRA until then: {self.folder.name}/lora.safetensors, in Load LoRA after a press of R"
        if self.best_is_kept:
            yield f"the best one, of step {self.best.record.step}: {self.folder.name}/best.safetensors"
        if self.folder.problem:
            yield self.folder.problem

    def _keep(self, chosen: KeptLora, last: KeptLora) -> bool:
        """`chosen`, the best or the last LoRA, as lora.safetensors, with the other one beside it under its
        own name.

        Whether `chosen` was written.
        """
        is_kept = self.folder.keep(self._lora(chosen), "lora")
        if chosen.record.step != last.record.step:
            self.folder.keep(self._lora(last), "last")
        if self.best and self.best.record.step != chosen.record.step:
            self.best_is_kept = self.best_is_kept or self.folder.keep(self._lora(self.best), "best")
        elif is_kept:
            self.folder.drop("best")
            self.best_is_kept = False
        return is_kept

    def _last(self) -> KeptLora:
        return KeptLora(self.folder.records[-1], lora_tensors(self.adapters))

    def _new_adapters(self, layers: Sequence[TargetLayer]) -> list[LoraAdapter]:
        generator = Generators.seeded(self.job.run.seed).init
        devices = {"unet": self.network.device, "text_encoder": self.network.text_encoder.device}
        return [
            new_adapter(
                layer.name, layer.part, layer.module, self.job.lora.dim, generator, devices[layer.part]
            )
            for layer in layers
        ]

    def _loss_grid(self, heldout: list[LatentPicture]) -> LossGrid | None:
        return (
            LossGrid.draw(heldout, self.network.timesteps, Generators.seeded(HELDOUT_SEED).heldout)
            if heldout
            else None
        )

    def _on_event(self, event: Event) -> None:
        problem = self.folder.problem
        self._take(event)
        if self.folder.problem and not problem:
            self._take(
                Notice(self.folder.records[-1].step if self.folder.records else 0, self.folder.problem)
            )

    def _take(self, event: Event) -> None:
        match event:
            case StepRecord():
                self.folder.record(event)
                self.progress.step(event, self.steps)
            case Measuring(step):
                self.progress.measuring(step)
            case HeldoutLoss():
                self.heldout.append(event)
                self.folder.measured(event)
                self.progress.measured(event, best_of(self.heldout))
            case BestSoFar(lora):
                self.best = lora
                self.best_is_kept = self.folder.keep(self._lora(lora), "best")
            case SafetyCopy(lora):
                self.folder.keep(self._lora(lora), "lora")
            case SavedOnTheWay(lora):
                self.folder.keep(self._lora(lora), f"step_{lora.record.step:06d}")
            case Notice():
                self.notices.append(event)
                self.progress.notice(event)

    def _lora(self, kept: KeptLora) -> LoraModel:
        return LoraModel(kept.tensors, training_metadata(self.facts, kept.record), self.keys)

    def _found(self) -> Iterator[str]:
        """What the run found, and what it made of it."""
        layers = {
            part: sum(adapter.part == part for adapter in self.adapters) for part in self.job.lora.parts
        }
        names = {"unet": "UNet", "text_encoder": "text encoder"}
        values = sum(adapter.down.numel() + adapter.up.numel() for adapter in self.adapters)
        yield (
            f"{self.prepared.family.name} in {str(self.network.weight_dtype).removeprefix('torch.')} on"
            f" {self.network.device}, computed in {self.prepared.precision}; "
            + " and ".join(f"{count} {names[part]} layers" for part, count in layers.items())
            + f" at dim {self.job.lora.dim}, {values / 1e6:.1f} million values"
        )
        recipe = self.job.recipe.resolved()
        yield f"recipe '{recipe.preset}': {recipe.schedule}, warmup {recipe.warmup_percent:g}%"
        mean = self.job.dataset.pictures_per_epoch / batches_per_epoch(self.pictures, self.job.run.batch_size)
        if mean < FULL * self.job.run.batch_size:
            yield (
                f"{mean:.1f} pictures a step on average: only pictures of one size share a step, and the last"
                " of an epoch may be fewer"
            )
        if not self.grid:
            yield (
                "no pictures were held out, so that nobody knows if it overtrained: set heldout_share to 0.1"
                " at Load Dataset to see it"
            )
        if self.prepared.checkpointing:
            yield "checkpointing: each block is computed twice, which takes less memory"
        yield from self._upstream()

    def _upstream(self) -> Iterator[str]:
        return found_upstream(self.model, self.clip, self.network.text_encoder.clip_skip)

    def _warnings(self, result) -> Iterator[str]:
        if PRESETS[self.job.recipe.preset].warning:
            yield PRESETS[self.job.recipe.preset].warning
        yield from (notice.text for notice in self.notices)
        if self.folder.problem and self.folder.problem not in (notice.text for notice in self.notices):
            yield self.folder.problem
        if any(getattr(patcher.model, "model_lowvram", False) for patcher in self.network.patchers):
            yield (
                "the model did not fit and was loaded in part, which makes training slow and takes more"
                " memory again; lower the batch size or the resolution, or close what else uses the GPU"
            )
        yield from advice.of_finished_run(result.skipped_steps, self.heldout)
