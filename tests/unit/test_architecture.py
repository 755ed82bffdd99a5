"""Imports go one way: nodes/ -> comfy_host/ -> trainer/, and only comfy_host/ knows ComfyUI."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devhost.layout import Host
from devhost.pack import NAME
from tests.conftest import ROOT

PARTS = ("trainer", "comfy_host", "nodes")
# what each part may import of the others, and of ComfyUI
OF_THE_PACK = {
    "trainer": {"trainer"},
    "comfy_host": {"comfy_host", "trainer"},
    "nodes": {"nodes", "comfy_host", "trainer"},
}
OF_COMFYUI = {"trainer": (), "comfy_host": None, "nodes": ("comfy_api.latest",)}  # None: anything
IMPORT_TRAINER = """
import importlib.abc, importlib.util, json, pathlib, sys

class NoComfyUI(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        above = name.startswith(("pack.comfy_host", "pack.nodes"))
        if above or name.split(".")[0] in json.loads(sys.argv[2]):
            raise ImportError(f"the trainer asked for {name}")

sys.meta_path.insert(0, NoComfyUI())
root = pathlib.Path(sys.argv[1])
places = {"submodule_search_locations": [str(root)]}
spec = importlib.util.spec_from_file_location("pack", root / "__init__.py", **places)
sys.modules["pack"] = importlib.util.module_from_spec(spec)
files = [file.relative_to(root).with_suffix("") for file in sorted((root / "trainer").rglob("*.py"))]
names = [".".join(("pack", *file.parts)) for file in files if file.stem != "__init__"]
for name in names:
    importlib.import_module(name)
by_root = [name for name in sys.modules if name in ("trainer", "comfy_host", "nodes")]
print(json.dumps({"imported": names, "by_root": by_root}))
"""


def comfyui_modules() -> list[str]:
    """The top-level names that ComfyUI's own folder puts in reach; `nodes` there is not the pack's."""
    folder = Host.from_environment().comfyui
    return sorted(
        {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
    )


def modules(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Full names of what a module of the pack imports, anywhere in it; of its own pack as
    `pack.PART.MODULE`.
    """
    package = ["pack", *file.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            if node.module and node.module != "pack":
                yield ".".join(module)
            else:
                yield from (".".join([*module, alias.name]) for alias in node.names)


def test_trainer_imports_with_no_comfyui_on_the_machine():
    """In a fresh process, where every module of ComfyUI and the pack's other parts refuse to be imported."""
    command = [sys.executable, "-I", "-c", IMPORT_TRAINER, str(ROOT), json.dumps(comfyui_modules())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "pack.trainer.run.training" in found["imported"]
    assert found["by_root"] == []


def test_comfyui_is_not_importable_here():
    """So that no test can lean on it by accident: all of them train and check with the trainer alone, or ask
    a real server.
    """
    assert not {"comfy", "folder_paths", "comfy_api", "execution"} & sys.modules.keys()
    with pytest.raises(ImportError):
        __import__("comfy")


def test_pack_is_one_package_here():
    assert [name for name in PARTS if name in sys.modules] == []
    assert NAME in sys.modules


@pytest.mark.parametrize("part", PARTS)
def test_part_imports_only_what_lies_below_it(part):
    wrong = {}
    for file in modules(part):
        of_pack = [
            name
            for name in imports(file)
            if name.startswith("pack.") and name.split(".")[1] not in OF_THE_PACK[part]
        ]
        by_root = [
            name
            for name in imports(file)
            if name.split(".")[0] in ("trainer", "comfy_host", "devhost", "demo", "tests")
        ]
        if of_pack or by_root:
            wrong[file.name] = of_pack + by_root
    assert wrong == {}


@pytest.mark.parametrize("part", [part for part in PARTS if OF_COMFYUI[part] is not None])
def test_part_knows_of_comfyui_only_what_it_may(part):
    wrong, of_comfyui = {}, set(comfyui_modules())
    for file in modules(part):
        of_host = [
            name
            for name in imports(file)
            if name.split(".")[0] in of_comfyui and not name.startswith(OF_COMFYUI[part])
        ]
        if of_host:
            wrong[file.name] = of_host
    assert wrong == {}


def test_the_check_sees_imports():
    """Else the tests above could pass on nothing."""
    assert {"comfy", "folder_paths", "server", "nodes", "execution", "comfy_api"} <= set(comfyui_modules())
    seen = {name for part in PARTS for file in modules(part) for name in imports(file)}
    assert {
        "torch",
        "folder_paths",
        "comfy_api.latest",
        "pack.trainer.settings.optimizer",
        "pack.comfy_host.train_lora",
        "pack.nodes.schema",
    } <= seen
