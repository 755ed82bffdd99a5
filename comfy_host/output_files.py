"""Where the pack writes below ComfyUI's output folder, and what ComfyUI calls a file there."""

from pathlib import Path

import folder_paths

from ..trainer.adapters.file_place import place_for
from ..trainer.record.folder import RunPlace
from ..trainer.record.run_folders import describe_runs, make_run_folder


def lora_path(filename: str, overwrite: bool) -> Path:
    """Where Save LoRA writes a file of this name, as `place_for` says. Makes nothing."""
    return place_for(_output(), filename, overwrite)


def new_run_place(dataset: str) -> RunPlace:
    """Makes output/loras/dadapt_runs/NAME_0001 for a run on a data set of that name.

    Its LoRA goes to ComfyUI's temp folder when that disk fails at the end.
    """
    path = make_run_folder(_output(), dataset)
    spare = Path(folder_paths.get_temp_directory(), "dadapt_runs")
    return RunPlace(path, name_in_output(path), spare, "dadapt_runs in ComfyUI's temp folder")


def runs_on_disk() -> list[str]:
    """How many runs there are, where, and how large, in a line for the person at the graph."""
    return describe_runs(_output())


def name_in_output(path: Path) -> str:
    """A path below the output folder, as ComfyUI's web page names it."""
    return path.relative_to(_output()).as_posix()


def name_in_load_lora(path: Path) -> str | None:
    """The name under which ComfyUI's Load LoRA lists a file, or None if it does not list it."""
    for root in folder_paths.get_folder_paths("loras"):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return None


def _output() -> Path:
    return Path(folder_paths.get_output_directory())
