"""Stores the figures of benchmarks in a file, and compares them with earlier ones.

The file is one JSON object: date, command, machine, one key per benchmark with what its `measure` gave, and a
flat "ratios" from all of them, which are medians of ours over theirs. A benchmark's own "medians", {name:
figure}, are compared as well.
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from devhost.errors import HostError
from devhost.layout import CHECKOUT, COMFYUI_VARIABLE

Results = dict[str, Any]
NOT_BENCHMARKS = ("date", "command", "machine", "ratios")


def collected(measured: Mapping[str, Mapping[str, Any]], arguments: Sequence[str], device: str) -> Results:
    """The object for the file. measured: what each benchmark's `measure` gave, by its name."""
    ratios = {name: value for result in measured.values() for name, value in result.get("ratios", {}).items()}
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python run.py bench", *arguments]),
        "machine": machine(device),
        "ratios": ratios,
        **measured,
    }


def read(file: Path) -> Results:
    """The object in a file. Raises `HostError` where no benchmark wrote the file."""
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        return results | {"ratios": dict(results["ratios"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        expected = f"Expected figures that `python run.py bench --json FILE` wrote in {file}"
        raise HostError(f"{expected}, got {type(error).__name__}: {error}") from error


def write(results: Results, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


# the machine ------------------------------------------------------------------------------------------------


def machine(device: str) -> dict[str, Any]:
    commit = _git("rev-parse", "HEAD")
    return {
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "comfyui": _comfyui_version(),
        "commit": commit or "unknown",
        "changed": bool(_git("status", "--porcelain")) if commit else None,  # since the commit
    }


def machine_line(about: Mapping[str, Any]) -> str:
    where = about["gpu"] or f"{about['processor']}, {about['cores']} cores, {about['threads']} threads"
    changed = " with changes" if about["changed"] else ""
    return (
        f"{where}, {about['system']}; torch {about['torch']}, Python {about['python']}, "
        f"ComfyUI {about['comfyui'] or '-'}, "
        f"commit {about['commit'][:10]}{changed}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _comfyui_version() -> str | None:
    """None where there is no ComfyUI, which only some benchmarks need."""
    if not os.environ.get(COMFYUI_VARIABLE):
        return None
    text = Path(os.environ[COMFYUI_VARIABLE], "comfyui_version.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "(.+)"', text)
    return found[1] if found else "unknown"


def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None where there is no git, or this is none of its checkouts."""
    try:
        done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


# comparing --------------------------------------------------------------------------------------------------


def compare(now: Results, before: Results) -> str:
    """A Markdown table of all ratios and medians. Those that one of the two lacks come last."""
    new = _figures(now)
    old = _figures(before)
    names = sorted(new | old, key=lambda name: name not in new or name not in old)
    lines = ["| figure | now | before | now over before |", "|---|---|---|---|"]
    return "\n".join(lines + [_row(name, new.get(name), old.get(name)) for name in names])


def _figures(results: Results) -> dict[str, float]:
    """The ratios, and each benchmark's medians under its name."""
    figures = dict(results["ratios"])
    for benchmark, result in results.items():
        if benchmark not in NOT_BENCHMARKS:
            figures |= {f"{benchmark}: {name}": value for name, value in result.get("medians", {}).items()}
    return figures


def _row(name: str, now: float | None, before: float | None) -> str:
    cells = ["missing" if figure is None else f"{figure:.4g}" for figure in (now, before)]
    change = "-" if now is None or not before else f"{now / before:.2f}"
    return f"| {name} | {cells[0]} | {cells[1]} | {change} |"
