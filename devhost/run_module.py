"""Runs a module as `python -m` does, with folders put first on its search path.

usage: python run_module.py FOLDER [FOLDER ...] -- MODULE [ARGUMENT ...]

PYTHONPATH would do nearly the same, but every process started from there would inherit it (ComfyUI must not
see the test tools), and the Python of ComfyUI's Windows package ignores it.
"""

import runpy
import sys


def main() -> None:
    divider = sys.argv.index("--")
    folders = sys.argv[1:divider]
    module, *arguments = sys.argv[divider + 1 :]
    sys.path[:] = [*folders, *(path for path in sys.path if path != _own_folder())]
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _own_folder() -> str:
    return __file__.replace("\\", "/").rpartition("/")[0]


if __name__ == "__main__":
    main()
