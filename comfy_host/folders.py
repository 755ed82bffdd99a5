"""Where the pack may read and write: picture folders by name, LoRA files by name.

Pictures are read below ComfyUI's input folder, and below the folders that the machine's owner registered in
extra_model_paths.yaml:

    my_pictures:
        dadapt_datasets: D:/pictures/for training
"""

import os
from pathlib import Path

import folder_paths

from ..trainer.data.folder import has_pictures
from ..trainer.errors import DatasetError, SettingError, shown
from ..trainer.record.folder import RunPlace

REGISTERED = "dadapt_datasets"  # key in extra_model_paths.yaml
LORA_SUBFOLDER = "loras"  # below the output folder; the host lists it in Load LoRA
_DEPTH = 3  # levels of folders that are offered


def dataset_folders() -> list[str]:
    """Names of the folders that can be chosen: those with pictures, or with `N_name` folders of pictures."""
    return sorted(name for name, folder in _candidates().items() if _has_pictures(folder))


def find_dataset_folder(name: str) -> Path:
    """The folder of that name. Raises `DatasetError` for one that is not there or lies elsewhere."""
    for root in _roots():
        folder = Path(os.path.normpath(root / name))  # links are the owner's own and followed; ".." is not
        if folder.is_relative_to(root) and folder != root and _is_folder(folder):
            return folder
    folders = dataset_folders()
    known = f"There are: {', '.join(folders[:20])}." if folders else "There are none yet."
    raise DatasetError(
        f"There is no picture folder {shown(name)}. Expected the name of a folder below ComfyUI's input"
        f" folder, or below one registered as '{REGISTERED}' in extra_model_paths.yaml. {known}"
    )


def lora_path(filename: str, overwrite: bool) -> Path:
    """Where a LoRA of this name is written: below output/loras; a number is added to a name that is taken,
    unless `overwrite`.
    """
    folder = Path(folder_paths.get_output_directory(), LORA_SUBFOLDER)
    name = filename.strip().removesuffix(".safetensors").strip("/\\ ")
    path = folder / f"{name}.safetensors"
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        raise SettingError(
            f"filename: expected a name such as 'my_lora' or 'styles/my_lora', got {filename!r}."
        )
    number = 2
    while path.exists() and not overwrite:
        path = folder / f"{name}_{number}.safetensors"
        number += 1
    return path


def new_run_folder(name: str) -> Path:
    """A new folder for what a run leaves behind: output/loras/dadapt_runs/NAME_0001.

    The host lists LoRAs in it, too.
    """
    folder = Path(folder_paths.get_output_directory(), LORA_SUBFOLDER, "dadapt_runs")
    stem = name.replace("/", "_").replace("\\", "_")
    for number in range(1, 10_000):
        path = folder / f"{stem}_{number:04}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise SettingError(
                f"ComfyUI's output folder cannot be written to: {error}. Allow it or make room, or start"
                " ComfyUI with another --output-directory."
            ) from error
        return path
    raise SettingError(f"There are 9,999 runs of '{name}' in {LORA_SUBFOLDER}/dadapt_runs. Delete some.")


def new_run_place(name: str) -> RunPlace:
    """A new folder for a run, and where its LoRA goes when that disk fails at the end."""
    path = new_run_folder(name)
    spare = Path(folder_paths.get_temp_directory(), "dadapt_runs")
    return RunPlace(path, name_in_output(path), spare, "dadapt_runs in ComfyUI's temp folder")


def name_in_output(path: Path) -> str:
    """A path below the output folder, as the host's web page names it."""
    return path.relative_to(folder_paths.get_output_directory()).as_posix()


def name_in_load_lora(path: Path) -> str | None:
    """The name under which the host's Load LoRA lists a file, or None if it does not list it."""
    for root in folder_paths.get_folder_paths("loras"):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return None


def _roots() -> list[Path]:
    registered = folder_paths.folder_names_and_paths.get(REGISTERED, ([], set()))[0]
    return [Path(os.path.normpath(root)) for root in (folder_paths.get_input_directory(), *registered)]


def _candidates() -> dict[str, Path]:
    """Folders below the roots by name; of two with one name the first root's counts, as in
    `find_dataset_folder`.
    """
    found: dict[str, Path] = {}
    for root in _roots():
        level = [root]
        for _ in range(_DEPTH):
            level = [child for folder in level for child in _subfolders(folder)]
            for folder in level:
                found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError:  # not there, or not ours to read: nothing in it can be chosen
        return []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is longer than the disk allows, or a folder that is not ours to read
        return False


def _has_pictures(folder: Path) -> bool:
    try:
        return has_pictures(folder)
    except OSError:  # holds a folder that is not ours to read, as lost+found
        return False
