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
# The rooms of trainer/, lowest first: a room imports from itself and from lower rows, nothing else.
FLOORS = (
    ("distribution", "errors", "parts", "seeds"),
    ("atomic_file", "families", "packages", "precision", "writable_folder"),
    ("settings",),
    ("data", "layers"),
    ("adapters", "objective", "optim"),
    ("run",),
    ("record",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# A file, a function or a class that grows beyond these does more than one thing.
MOST_IMPORTS = 14  # modules of the pack, in one file outside of the settings
MOST_LINES = 40  # in one function
MOST_ATTRIBUTES = 12  # of one class outside of the settings

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


def room_of(module: str) -> str:
    """The room of `pack.trainer.ROOM...`."""
    return module.split(".")[2]


def test_rooms_of_the_trainer_import_only_what_lies_below_them():
    """So that a room can be read without those above it."""
    wrong = []
    for file in modules("trainer"):
        own = (file.parent.name if file.parent.name != "trainer" else file.stem).removesuffix(".py")
        if file.name == "__init__.py":
            continue
        for name in imports(file):
            if not name.startswith("pack.trainer."):
                continue
            room = room_of(name)
            if room != own and FLOOR_OF[room] >= FLOOR_OF[own]:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_every_room_is_on_a_floor_and_has_tests_under_its_name():
    """The unit tests mirror the rooms."""
    rooms = {path.name for path in (ROOT / "trainer").iterdir() if (path / "__init__.py").exists()}
    files = {file.stem for file in (ROOT / "trainer").glob("*.py")} - {"__init__"}
    assert rooms | files == FLOOR_OF.keys()
    tested = {path.name for path in (ROOT / "tests" / "unit").iterdir() if list(path.glob("test_*.py"))}
    assert rooms <= tested


def test_a_curve_is_drawn_without_the_training_loop():
    """What a picture of a finished run needs is a small part of the trainer."""
    needed: set[str] = set()
    waiting = ["pack.trainer.record.curves"]
    while waiting:
        name = waiting.pop()
        file = ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py")
        if name not in needed and file.exists():
            needed.add(name)
            waiting += [found for found in imports(file) if found.startswith("pack.")]
    assert {room_of(name) for name in needed} == {"record", "run", "errors", "packages", "parts"}
    assert "pack.trainer.run.training" not in needed


def every_file() -> list[Path]:
    folders = (*PARTS, "devhost", "demo", "benchmarks", "tests")
    return [file for folder in folders for file in modules(folder)]


def test_no_file_imports_more_of_the_pack_than_one_can_hold_in_mind():
    wrong = {}
    for file in every_file():
        ours = {name for name in imports(file) if name.startswith(("pack.", f"{NAME}."))}
        if len(ours) > MOST_IMPORTS and file.parent.name != "settings":
            wrong[str(file.relative_to(ROOT))] = len(ours)
    assert wrong == {}


def test_no_function_is_longer_than_a_look():
    wrong = {}
    for file in every_file():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES:
                    wrong[f"{file.relative_to(ROOT)}: {node.name}"] = lines
    assert wrong == {}


def attributes(node: ast.ClassDef) -> set[str]:
    """What instances hold: fields of a dataclass, and what is set on self."""
    fields = {
        statement.target.id
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    stored = {
        found.attr
        for found in ast.walk(node)
        if isinstance(found, ast.Attribute)
        and isinstance(found.ctx, ast.Store)
        and isinstance(found.value, ast.Name)
        and found.value.id == "self"
    }
    return fields | stored


def test_no_class_holds_more_than_one_can_hold_in_mind():
    wrong = {}
    for file in every_file():
        if file.parent.name == "settings":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and len(attributes(node)) > MOST_ATTRIBUTES:
                wrong[f"{file.relative_to(ROOT)}: {node.name}"] = len(attributes(node))
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
