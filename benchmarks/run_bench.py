"""What `python run.py bench NAME` does, under ComfyUI's Python."""

import sys

from devhost.console import say

from . import safeguard

BENCHMARKS = {"safeguard": safeguard.main}


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        say(f"error: expected a benchmark, one of {', '.join(BENCHMARKS)}, got {name or 'none'}. Try `python run.py bench safeguard`.")
        return 2
    BENCHMARKS[name](sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
