"""Runs the benchmarks. `python run.py bench [NAME] ...` starts it under ComfyUI's Python.

NAME is one of train, memory, optimizer, data, growth; none, or "all", is all of these. presets and safeguard
take about an hour each and are asked for by name.
"""

import argparse
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from devhost.console import give_result, say
from devhost.errors import HostError
from devhost.pack import NAME, load_pack

MEASURED = ("train", "memory", "optimizer", "data", "growth")  # modules with add_options, measure, markdown
LONG = ("presets", "safeguard")  # modules with a main(arguments)


def main() -> int:
    # An exit by exception, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "all"
    try:
        if name in LONG:
            load_pack()
            _module(name).main(arguments)
        else:
            _measure(_chosen(name), arguments)
    except HostError as error:
        say(f"error: {error}")
        return 2
    return 0


def _chosen(name: str) -> tuple[str, ...]:
    if name != "all" and name not in MEASURED:
        raise HostError(f"Expected a benchmark, one of all, {', '.join(MEASURED + LONG)}, got {name}.")
    return MEASURED if name == "all" else (name,)


def _measure(names: tuple[str, ...], arguments: list[str]) -> None:
    load_pack()
    results = _module("results")
    common, own = _common_options(arguments)
    before = results.read(common.compare) if common.compare else None
    modules = {name: _module(name) for name in names}
    options = _own_options(modules, own, common)
    measured = {name: module.measure(options[name]) for name, module in modules.items()}
    now = results.collected(measured, sys.argv[1:], common.device)
    if common.json:
        results.write(now, common.json)
    give_result(_report(results, modules, now, before))


def _common_options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options that all benchmarks share, with the device that was chosen, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: CUDA where torch sees it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="figures of an earlier run, to be compared with"
    )
    options, own = parser.parse_known_args(arguments)
    if {"-h", "--help"} & set(own):
        give_result(f"{__doc__}\n{parser.format_help()}")
    options.device = _device(options.device)
    return options, own


def _device(wanted: str) -> str:
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise HostError("Expected a CUDA device, this torch sees none. Use --device cpu, or mend the driver.")
    return "cuda" if there and wanted != "cpu" else "cpu"


def _own_options(
    modules: dict[str, ModuleType], arguments: list[str], common: argparse.Namespace
) -> dict[str, argparse.Namespace]:
    """The options of each benchmark. Raises `HostError` for an argument that none of them knows."""
    options = {}
    unknown = []
    for name, module in modules.items():
        parser = argparse.ArgumentParser(
            prog=f"run.py bench {name}", description=module.__doc__, allow_abbrev=False
        )
        module.add_options(parser)
        options[name], others = parser.parse_known_args(arguments)
        vars(options[name]).update(vars(common))
        unknown.append(others)
    for argument in unknown[0]:
        if all(argument in others for others in unknown):
            raise HostError(
                f"Unknown argument {argument}. `python run.py bench {next(iter(modules))} --help` lists the"
                " options."
            )
    return options


def _report(results: ModuleType, modules: dict[str, ModuleType], now: dict, before: dict | None) -> str:
    lines = [f"{now['date'][:10]}, `{now['command']}`: {results.machine_line(now['machine'])}"]
    for name, module in modules.items():
        lines += ["", f"## {name}", "", module.markdown(now[name])]
    if before is not None:
        lines += ["", f"## Compared with {before['date'][:10]}", "", results.compare(now, before)]
    return "\n".join(lines)


def _module(name: str) -> ModuleType:
    return import_module(f"{NAME}.benchmarks.{name}")


if __name__ == "__main__":
    sys.exit(main())
