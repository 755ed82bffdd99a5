"""The whole development loop: python run.py setup | demo | test | lint | bench.

It needs Python 3.10 or newer and no packages. It makes its own environment and its own ComfyUI in `.host/` of
this checkout (about 5.5 GB; DADAPT_LORA_HOST names a folder that several checkouts share), or uses an
existing ComfyUI with --comfyui.
"""

import argparse
import sys
from pathlib import Path

if sys.version_info < (3, 10):
    sys.exit(
        f"error: expected Python 3.10 or newer, this is {sys.version.split()[0]}. Start run.py with a newer"
        " one."
    )

from devhost import commands
from devhost.console import say
from devhost.errors import HostError
from devhost.layout import CHECKOUT

PLATFORMS = "Tested on Linux. It is written for macOS and Windows as well, but not tested there."


def main() -> int:
    options, others = _parser().parse_known_args()
    if others and options.command not in ("test", "lint", "bench"):
        _parser().error(f"unrecognized arguments: {' '.join(others)}")
    if getattr(options, "python", None) and not options.comfyui:
        _parser().error("--python needs --comfyui: it names the Python of that ComfyUI")
    options.arguments = others
    try:
        return options.run(options)
    except HostError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("Stopped.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description=__doc__,
        epilog=PLATFORMS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(dest="command", required=True)

    def add(name: str, help_text: str, *, hosted: bool = True) -> argparse.ArgumentParser:
        command = subparsers.add_parser(
            name, help=help_text, description=help_text, epilog=PLATFORMS, allow_abbrev=False
        )
        command.set_defaults(run=getattr(commands, name))
        if hosted:
            _add_host_options(command)
        return command

    add("setup", "Make the environment and ComfyUI that the other commands use. They call it themselves.")
    _add_demo_options(
        add("demo", "Train a LoRA on the small model in demo/ and draw pictures without and with it.")
    )
    add("test", "Run the tests on a real ComfyUI server. Other arguments go to pytest.")
    add("bench", "Measure. The first argument names a benchmark, the others are its own.")
    add("lint", "Check the code and its format with ruff. Other arguments go to `ruff check`.", hosted=False)
    return parser


def _add_host_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--comfyui",
        type=Path,
        metavar="PATH",
        help=(
            "use this ComfyUI. The packages of requirements.txt that its Python lacks are installed there,"
            " nothing else is; its models, input, output, user and database folders are not used"
        ),
    )
    command.add_argument(
        "--python",
        type=Path,
        metavar="PATH",
        help="the Python that runs that ComfyUI, where it is not found beside it",
    )


def _add_demo_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", type=_positive, metavar="N", help="default: as the example workflow says")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: CUDA where torch sees it"
    )
    command.add_argument(
        "--output", type=Path, default=CHECKOUT / "demo_output", metavar="DIR", help="default: demo_output"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of steps from 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
