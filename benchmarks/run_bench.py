"""What `python run.py bench NAME` does, under ComfyUI's Python."""

import sys
from importlib import import_module

from devhost.console import say
from devhost.pack import NAME, load_pack

BENCHMARKS = ("optimizer", "presets", "safeguard")  # a module each, with main(arguments)


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        say(f"error: expected a benchmark, one of {', '.join(BENCHMARKS)}, got {name or 'none'}. Try `python run.py bench optimizer`.")
        return 2
    load_pack()
    import_module(f"{NAME}.benchmarks.{name}").main(sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
