"""What `python run.py demo` does, under ComfyUI's Python: trains the example workflow on a real server.

The last line on stdout is the summary as one JSON object; everything else goes to stderr.
"""

import argparse
import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from comfyui_dadapt_lora.trainer.data.captions import with_trigger
from PIL import Image

from devhost.client import Client
from devhost.console import give_result, say
from devhost.errors import HostError
from devhost.execution import Execution
from devhost.layout import STARTED_VARIABLE, Host, default_base
from devhost.server import HostServer

from .progress import TrainingProgress, progress_bar
from .results import Pair, write_results
from .stage import stage_checkpoint, stage_dataset
from .workflow import Branch, DemoWorkflow, read_workflow

# Held-out things that the small model draws well: captions of demo/dataset/heldout.
CAPTIONS = (
    *("red apple", "sunflower", "pig face", "crescent moon"),
    *("slice of pizza", "purple heart", "taxi", "doughnut"),
)
OF_TRAIN = (
    "steps",
    "seconds_training",
    "d_first",
    "d_last",
    "heldout_loss_before",
    "heldout_loss_after",
    "heldout_loss_best",
    "best_step",
    "heldout",
    "update_ratio",
)
OF_SAVE = ("keys_total", "keys_matched")


def main() -> int:
    options = _parse()
    signal.signal(signal.SIGTERM, _exit)  # unwinds, and so stops the server
    log = default_base() / "comfyui.log"
    try:
        summary = run(Host.from_environment(), default_base(), options)
    except KeyboardInterrupt:
        return 130  # run.py says it
    except HostError as error:
        say(f"error: {error} (log of ComfyUI: {log})")
        return 1
    except Exception as error:  # a defect of the demo itself; the person still gets a clear last line
        traceback.print_exc()
        say(f"error: the demo failed: {type(error).__name__}: {error} (log of ComfyUI: {log})")
        return 1
    give_result(json.dumps(summary))
    return 0


def run(host: Host, base: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Trains, draws pictures, writes everything to the output folder and returns the summary."""
    stage_checkpoint(base)
    stage_dataset(base)
    workflow = read_workflow().prepared(options.steps)
    progress = TrainingProgress()
    with HostServer(host, base, device=options.device) as server, Client(server.url) as client:
        say(f"ComfyUI runs on the {server.device.upper()} at {server.url}; its log is {server.log}")
        training = _train(client, workflow, progress)
        pairs = [_pair(client, workflow, training, CAPTIONS[0]), *_draw_the_others(client, workflow)]
    report = _shown(training, workflow.train, "dadapt_report")
    saved = _shown(training, workflow.save, "dadapt_lora")
    say(report["text"])
    summary = {name: report[name] for name in OF_TRAIN} | {name: saved[name] for name in OF_SAVE}
    summary |= {"seconds_to_first_step": _seconds_to_first_step(progress), "device": server.device}
    made = base / "output"
    steps_file = made / report["run_folder"] / "steps.jsonl"
    summary = write_results(
        options.output, summary, made / saved["file"], steps_file, pairs, workflow.trigger_word
    )
    say(f"Written to {options.output}: {', '.join(sorted(file.name for file in options.output.iterdir()))}")
    return summary


def _train(client: Client, workflow: DemoWorkflow, progress: TrainingProgress) -> Execution:
    """Runs the whole workflow, with the first column's prompt on its samplers."""
    with progress:
        return client.run(_column(workflow, 0), progress.on_event).check()


def _draw_the_others(client: Client, workflow: DemoWorkflow) -> list[Pair]:
    """Draws the remaining columns. The trained LoRA is in ComfyUI's cache, so that only the samplers run."""
    pairs = []
    with progress_bar("drawing", len(CAPTIONS)) as bar:
        bar.update()  # the first column came with the training
        for column in range(1, len(CAPTIONS)):
            execution = client.run(_column(workflow, column)).check()
            if workflow.train in execution.executed_nodes or workflow.train not in execution.cached_nodes:
                raise HostError(
                    "Expected ComfyUI to keep the trained LoRA for other prompts, Train ran again."
                )
            pairs.append(_pair(client, workflow, execution, CAPTIONS[column]))
            bar.update()
    return pairs


def _column(workflow: DemoWorkflow, column: int) -> dict:
    return workflow.asking_for(with_trigger(workflow.trigger_word, CAPTIONS[column]), seed=column + 1)


def _pair(client: Client, workflow: DemoWorkflow, execution: Execution, caption: str) -> Pair:
    def picture(branch: Branch) -> Image.Image:
        return Image.open(io.BytesIO(client.view(execution.images(branch.picture)[0])))

    return Pair(caption, picture(workflow.without_lora), picture(workflow.with_lora))


def _shown(execution: Execution, node_id: str, key: str) -> dict[str, Any]:
    try:
        return execution.outputs[node_id][key][0]
    except (KeyError, IndexError) as error:
        raise HostError(
            f"Expected {key!r} among what node {node_id} shows, found {execution.outputs}."
        ) from error


def _seconds_to_first_step(progress: TrainingProgress) -> float:
    """Seconds from the start of the command that the person gave to the first training step."""
    if progress.first_step_at is None:
        raise HostError("Expected dadapt_lora.step events from Train, none came.")
    return round(progress.first_step_at - float(os.environ[STARTED_VARIABLE]), 1)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py demo")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), required=True)
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
