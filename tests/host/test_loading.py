"""The pack costs nothing to load, and one that cannot load says why and lets ComfyUI start."""

import json
import shutil
import subprocess

import pytest

from devhost.client import Client
from devhost.layout import Host
from devhost.server import HostServer
from tests.conftest import ROOT

IMPORT_THE_ROOT = """
import importlib.util, json, sys
before = set(sys.modules)
places = {"submodule_search_locations": [sys.argv[1]]}
spec = importlib.util.spec_from_file_location("pack", sys.argv[1] + "/__init__.py", **places)
sys.modules["pack"] = pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
print(json.dumps({"new": sorted(set(sys.modules) - before), "entrypoint": callable(pack.comfy_entrypoint)}))
"""


def test_importing_the_pack_imports_nothing_heavy():
    """Neither torch nor NumPy nor a module of the pack: they come when ComfyUI asks for the nodes, and has
    most of them loaded.
    """
    command = [str(Host.from_environment().python), "-I", "-c", IMPORT_THE_ROOT, str(ROOT)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["entrypoint"]
    assert [
        name
        for name in found["new"]
        if name.split(".")[0] in ("torch", "numpy", "PIL", "dadaptation", "matplotlib")
    ] == []
    assert [name for name in found["new"] if name.startswith("pack.")] == []


BROKEN_PACK = "broken-dadapt-lora"


@pytest.fixture
def base_with_broken_pack(tmp_path):
    """A copy of the pack in which one module cannot be imported."""
    pack = tmp_path / "base" / "custom_nodes" / BROKEN_PACK
    pack.mkdir(parents=True)
    shutil.copyfile(ROOT / "__init__.py", pack / "__init__.py")
    for folder in ("nodes", "comfy_host", "trainer"):
        shutil.copytree(ROOT / folder, pack / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (pack / "trainer" / "errors.py").write_text(
        "raise ImportError('a library that is not there')\n", encoding="utf-8"
    )
    return tmp_path / "base"


def test_error_while_loading_is_logged_with_its_cause_and_comfyui_starts(base_with_broken_pack):
    server = HostServer(
        Host.from_environment(), base_with_broken_pack, device="cpu", custom_nodes=(BROKEN_PACK,)
    )
    with server, Client(server.url) as client:
        types = client.object_info()
    log = server.log.read_text(encoding="utf-8")
    assert "KSampler" in types
    assert not [name for name in types if name.startswith("DAdapt")]
    reported = log[log.index("DAdapt LoRA could not be loaded") :]
    assert (
        reported.index("Traceback")
        < reported.index("errors.py")
        < reported.index("ImportError: a library that is not there")
    )
