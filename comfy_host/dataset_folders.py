"""The picture folders that Load Dataset offers.

They lie below ComfyUI's input folder, and below the folders that the machine's owner registered in
extra_model_paths.yaml:

    my_pictures:
        dadapt_datasets: D:/pictures/for training
"""

import os
from pathlib import Path

import folder_paths

from ..trainer.data.folder_list import FolderList

REGISTERED = "dadapt_datasets"  # key in extra_model_paths.yaml


def dataset_folders() -> list[str]:
    """Names of the folders that can be chosen: those with pictures, or with `N_name` folders of pictures."""
    return _folders.names()


def find_dataset_folder(name: str) -> Path:
    """The folder of that name, also one that `dataset_folders` does not list yet.

    Raises `DatasetError` for one that is not there or lies elsewhere.
    """
    return _folders.find(name)


def _roots() -> list[Path]:
    registered = folder_paths.folder_names_and_paths.get(REGISTERED, ([], set()))[0]
    return [Path(os.path.normpath(root)) for root in (folder_paths.get_input_directory(), *registered)]


_folders = FolderList(
    _roots,
    f"the name of a folder below ComfyUI's input folder, or below one registered as '{REGISTERED}' in"
    " extra_model_paths.yaml",
)
