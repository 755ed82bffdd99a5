"""steps.jsonl: one line of JSON for each step of a run."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ..run.events import StepRecord


def append_records(path: Path, records: Iterable[StepRecord]) -> None:
    """Adds one line of JSON a record to the file at `path`."""
    with path.open("a", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(asdict(record), allow_nan=False) + "\n")
