"""Runs ComfyUI's main.py and ends when the process that started it is gone, however that ended.

usage: python run_comfyui.py COMFYUI_FOLDER [ARGUMENT OF main.py ...]

The starter holds the other end of this process's stdin, which the operating system closes with it.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    comfyui, *arguments = sys.argv[1:]
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    # os.path, because pathlib is not worth its import before ComfyUI's own start
    main_file = os.path.join(comfyui, "main.py")  # noqa: PTH118
    sys.path[:] = [comfyui, *(path for path in sys.path if path != os.path.dirname(__file__))]  # noqa: PTH120
    sys.argv[:] = [main_file, *arguments]
    runpy.run_path(main_file, run_name="__main__")


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with what ComfyUI started itself
    os._exit(1)


if __name__ == "__main__":
    main()
