"""A base directory of our own: models, input, output, temp, user, database and custom_nodes of one server.

`--base-directory` moves all of these but the database, so nothing of a user's ComfyUI is written. What its
own `extra_model_paths.yaml` names is still listed among the models: ComfyUI reads that file whatever it is
told.
"""

from pathlib import Path

from .files import link_folder
from .layout import CHECKOUT, PACK_NAME

FOLDERS = (
    "models/checkpoints",
    "models/loras",
    "models/embeddings",
    "input",
    "output",
    "temp",
    "user",
    "custom_nodes",
)


def prepare_base(base: Path) -> Path:
    """Makes the folders that are missing and links this checkout into custom_nodes."""
    base = base.absolute()
    for name in FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    link_folder(base / "custom_nodes" / PACK_NAME, CHECKOUT)
    return base
