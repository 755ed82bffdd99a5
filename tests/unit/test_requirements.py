"""What is installed into ComfyUI's environment, which belongs to somebody else."""

import re

from devhost import pins
from tests.conftest import ROOT

LINES = [
    line
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def test_every_requirement_is_a_range_up_to_the_next_major_version():
    """An exact version could not be installed beside another pack that wants another one."""
    for line in LINES:
        assert re.fullmatch(r"[\w-]+>=\d+(\.\d+)*,<\d+", line), line
        least, limit = re.findall(r"[\d.]+", line.split(">=")[1])
        assert version(limit)[0] == version(least)[0] + 1, line


def test_the_versions_that_the_tests_run_with_are_in_the_ranges():
    ranges = {line.split(">=")[0]: re.findall(r"[\d.]+", line.split(">=")[1]) for line in LINES}
    for pinned in pins.OPTIMIZERS:
        name, exact = pinned.split("==")
        least, limit = ranges[name]
        assert version(least) <= version(exact) < version(limit), pinned
