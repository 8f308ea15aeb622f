"""Start the host, wait until it answers, and stop it on every way out."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from devtools.commands import environment_without_python_settings, tail
from devtools.console import DevError, say

ADDRESS = "127.0.0.1"
START_LIMIT_S = 300.0
STOP_LIMIT_S = 10.0
LOG_NAME = "comfyui.log"
PLAIN_LOG = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
ACCELERATOR_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/accel", "/dev/dri")


def free_port() -> int:
    """Return a port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def is_port_free(port: int) -> bool:
    """Say whether a server could listen on this port."""
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def has_accelerator(python: Path) -> bool:
    """Say whether torch can compute on something else than the processor."""
    if platform.system() == "Linux" and not any(map(os.path.exists, ACCELERATOR_DEVICES)):
        return False
    code = "import sys, torch; sys.exit(0 if torch.accelerator.is_available() else 3)"
    return subprocess.run([str(python), "-c", code], capture_output=True).returncode == 0


class ComfyServer:
    """One running host.

    Args:
        tree: folder of the host's `main.py`.
        base: base directory with `custom_nodes`, `models`, `input`, `output`, `user`.
        python: interpreter of the environment that holds the host's packages.
        port: port to listen on; `None` takes a free one.
        on_cpu: compute on the processor even where torch sees an accelerator.
        options: further arguments of the host.
        environment: environment variables to add to this process's own.
    """

    def __init__(
        self,
        tree: Path,
        base: Path,
        *,
        python: Path = Path(sys.executable),
        port: int | None = None,
        on_cpu: bool | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if port is not None and not is_port_free(port):
            raise DevError(
                f"Port {port} is taken by another program. Leave --port out to get a free one, or stop that program."
            )
        self.port = port if port is not None else free_port()
        self.base = base
        self.log_path = base / LOG_NAME
        self._tree = tree
        self._python = python
        self._on_cpu = not has_accelerator(python) if on_cpu is None else on_cpu
        self._options = list(options)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the host, without a slash at the end."""
        return f"http://{ADDRESS}:{self.port}"

    def command(self) -> list[str]:
        """Return the host's command line."""
        database = (self.base / "user" / "comfyui.db").resolve().as_posix()
        line = [str(self._python), "main.py", "--listen", ADDRESS, "--port", str(self.port)]
        line += ["--base-directory", str(self.base.resolve())]
        line += ["--database-url", f"sqlite:///{database}"]
        line += ["--disable-auto-launch", "--disable-api-nodes"]
        return line + (["--cpu"] if self._on_cpu else []) + self._options

    def start(self) -> None:
        """Start the host and wait until it answers.

        Raises:
            DevError: it ended by itself or did not answer in time; the text holds its last lines.
        """
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self._tree,
                env=environment_without_python_settings() | PLAIN_LOG | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def is_running(self) -> bool:
        """Say whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Wait until the host ends by itself and return its status."""
        if self._process is None:
            raise DevError("The host was not started. Call start() first.")
        return self._process.wait()

    def stop(self) -> None:
        """End the host and all its children; calling it twice does no harm."""
        process = self._process
        if process is None:
            return
        self._signal_group(process, hard=False)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal_group(process, hard=True)
            process.wait()
            self._process = None

    def log_tail(self, lines: int = 25) -> str:
        """Return the last lines of the log."""
        if not self.log_path.exists():
            return ""
        return tail(self.log_path.read_text(errors="replace"), lines)

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if not self.is_running():
                raise DevError(
                    f"The host ended while it was starting. Its last lines were:\n{self.log_tail()}\n{self._advice()}"
                )
            if self._answers():
                return
            time.sleep(0.25)
        raise DevError(
            f"The host did not answer within {START_LIMIT_S:.0f} s. Its last lines were:\n"
            f"{self.log_tail()}\nThe machine may be too busy: try again, or read {self.log_path}."
        )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/system_stats", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _advice(self) -> str:
        log = self.log_path.read_text(errors="replace").lower()
        if "address already in use" in log or "10048" in log:
            return f"Port {self.port} was taken in the meantime. Run the command again."
        if "modulenotfounderror" in log or "importerror" in log:
            return "A package is missing or broken. Delete .venv and run: python3 dev.py setup"
        if "out of memory" in log or "cannot allocate" in log:
            return "Memory ran out. Close other programs and run the command again."
        return f"The whole log is in {self.log_path}."

    @staticmethod
    def _signal_group(process: subprocess.Popen[bytes], *, hard: bool) -> None:
        if os.name == "posix":
            try:
                os.killpg(process.pid, signal.SIGKILL if hard else signal.SIGTERM)
            except (ProcessLookupError, PermissionError):
                return
        elif process.poll() is None:
            force = ["/F"] if hard else []
            subprocess.run(
                ["taskkill", "/T", *force, "/PID", str(process.pid)],
                capture_output=True,
                check=False,
            )


def run_to_the_end(job: Callable[[], None]) -> int:
    """Run a program's job, which may start hosts, and return its exit status; what was started ends with it."""
    try:
        with ended_by_signals():
            job()
    except DevError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The host was ended too.")
        return 130
    return 0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn termination and hang-up into `SystemExit`, so that `with` blocks clean up."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    previous = {name: signal.signal(getattr(signal, name), leave) for name in names}
    try:
        yield
    finally:
        for name, handler in previous.items():
            signal.signal(getattr(signal, name), handler)
