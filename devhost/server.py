"""HostServer: a real ComfyUI on a free loopback port, for as long as a `with` block."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from .base import prepare_base
from .errors import HostError, ServerFailed
from .layout import PACK_NAME, Host
from .pip import clean_environment

Device = Literal["auto", "cpu", "cuda"]
LAUNCHER = Path(__file__).with_name("run_comfyui.py")
LOG_LINES_SHOWN = 25
# A log that is complete when the process dies, with a traceback where it crashes in native code.
_SERVER_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "PYTHONIOENCODING": "utf-8"}
# Threads that wait for each other by spinning starve where other processes want the cores: steps took 2 to 20
# times as long. A little spinning, which only GNU's OpenMP can be asked for, is worth it: on an idle machine
# a step takes 60% of the time that it takes without any.
_CPU_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
# A group of its own: Ctrl-C reaches us alone, and we stop the server in order.
if sys.platform == "win32":
    _OWN_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _OWN_GROUP = {"start_new_session": True}
# A proxy named in the environment is for the outside, not for the loopback address.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HostServer:
    """A ComfyUI that runs as long as a `with` block: entering returns when it answers, leaving stops it.

    base: the base directory with its folders (prepare_base); made where missing.
    device: auto takes CUDA where ComfyUI's torch sees it.
    arguments: more options for main.py, such as ("--extra-model-paths-config", "x.yaml").
    custom_nodes: names in base/custom_nodes that load; no others do.
    log: file for all that ComfyUI writes, default base/comfyui.log; a new start overwrites it.
    """

    def __init__(
        self,
        host: Host,
        base: Path,
        *,
        device: Device = "auto",
        arguments: Sequence[str] = (),
        custom_nodes: Sequence[str] = (PACK_NAME,),
        log: Path | None = None,
        startup_seconds: float = 240,
    ):
        self.host = host
        self.base = base.absolute()
        self.device = choose_device(host.python, device)
        self.log = (log or self.base / "comfyui.log").absolute()
        self.port = 0
        self._arguments = tuple(arguments)
        self._custom_nodes = tuple(custom_nodes)
        self._startup_seconds = startup_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int | None:
        """Of ComfyUI, while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> "HostServer":
        self.start()
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        status = self._process.poll() if self._process else None
        self.stop()
        if isinstance(error, ServerFailed) and status is not None:
            raise ServerFailed(
                f"ComfyUI ended by itself, status {status}. {self._log_for_reading()}"
            ) from error

    def start(self) -> None:
        """Returns when ComfyUI answers. Raises ServerFailed with the last log lines when it does not."""
        prepare_base(self.base)
        self.port = _free_port()
        try:
            self._process = self._start_process()
            self._wait_until_it_answers()
        except BaseException:  # Ctrl-C as well: nobody else knows the process yet
            self.stop()
            raise

    def stop(self) -> None:
        """Ends ComfyUI and what it started. Does nothing when it is not running."""
        process = self._process
        self._process = None
        if process is not None:
            _end_process(process)

    def command(self) -> list[str]:
        return [
            *(str(self.host.python), str(LAUNCHER), str(self.host.comfyui)),
            *("--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch"),
            *("--base-directory", str(self.base)),
            *("--database-url", f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}"),
            "--disable-api-nodes",  # nodes that ask the network; the page does not either then
            "--disable-all-custom-nodes",
            *(("--whitelist-custom-nodes", *self._custom_nodes) if self._custom_nodes else ()),
            # ComfyUI's own choice on a CPU writes in place, which no gradient survives.
            *(("--cpu", "--use-pytorch-cross-attention") if self.device == "cpu" else ()),
            *self._arguments,
        ]

    def log_tail(self, lines: int = LOG_LINES_SHOWN) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _start_process(self) -> subprocess.Popen[bytes]:
        """stdin stays open until this process ends, and run_comfyui.py waits for its end."""
        environment = clean_environment() | _SERVER_ENVIRONMENT
        if self.device == "cpu":
            environment = _CPU_ENVIRONMENT | environment
        options = {"cwd": self.base, "env": environment, "stdin": subprocess.PIPE, **_OWN_GROUP}
        try:
            with self.log.open("wb") as log:
                return subprocess.Popen(self.command(), stdout=log, stderr=log, **options)
        except OSError as error:
            raise ServerFailed(
                f"ComfyUI could not be started: {error}. `run.py setup` mends its Python."
            ) from error

    def _wait_until_it_answers(self) -> None:
        give_up = time.monotonic() + self._startup_seconds
        while not self._answers():
            if not self.running:
                raise ServerFailed(f"ComfyUI ended while starting. {self._log_for_reading()}")
            if time.monotonic() > give_up:
                raise ServerFailed(
                    f"ComfyUI is silent for {self._startup_seconds:.0f} s. {self._log_for_reading()}"
                )
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with _opener.open(f"{self.url}/system_stats", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def _log_for_reading(self) -> str:
        return f"The end of {self.log}:\n{self.log_tail()}"


def choose_device(python: Path, wanted: Device) -> Literal["cpu", "cuda"]:
    """The device to run on. Raises HostError when cuda is wanted and that Python's torch does not see it."""
    if wanted == "cpu" or (wanted == "auto" and _no_device_file()):
        return "cpu"
    if torch_sees_cuda(python):
        return "cuda"
    if wanted == "auto":
        return "cpu"
    raise HostError(
        f"Expected a CUDA device, the torch of {python} sees none. Use --device cpu, or mend the driver."
    )


def torch_sees_cuda(python: Path) -> bool:
    command = [str(python), "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
    return subprocess.run(command, env=clean_environment(), capture_output=True, check=False).returncode == 0


def _no_device_file() -> bool:
    """True where no GPU driver can be present (NVIDIA, AMD, WSL).

    This spares the seconds that importing torch takes.
    """
    return sys.platform == "linux" and not any(
        Path("/dev", name).exists() for name in ("nvidiactl", "kfd", "dxg")
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end_process(process: subprocess.Popen[bytes], patience: float = 10) -> None:
    """patience: seconds between asking and killing."""
    try:
        if sys.platform != "win32":
            process.terminate()
            process.wait(patience)
    except subprocess.TimeoutExpired:
        pass  # it is killed below
    finally:
        _kill_group(process)
        process.wait()
        if process.stdin:
            process.stdin.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills the process and its children, and the children also where the process has ended already."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
