"""Runs a part of the check in a process of its own.

So a part that crashes, hangs or runs out of memory is a line that fails, not the end of the
check; whatever it took from the machine is given back when it ends; and none of the parts sees
what another left in the memory of a device.

    python -m tffold.check.child PART < REQUEST.json
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tffold import config_file
from tffold.check.report import FAIL, Line, finite
from tffold.config import Config

MARK = "tffold-check-line "
ENDED = "ended"  # the name of the line that says how a part's process died
OUT_OF_MEMORY = "out_of_memory"  # in that line's values
_OUT_OF_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "ResourceExhausted", "OOM when", "std::bad_alloc",
                        "Out of memory", "MemoryError")  # fmt: skip
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Request:
    """What a part is asked.

    ``found``: numbers of earlier parts (``report.values_of``). ``cpu_devices``: so many logical
    devices are made of the processor. ``options``: a part's own.
    """

    config: Config
    cpu_devices: int = 1
    found: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """Of a part's process: seconds, and bytes of the host's memory (0: no bound)."""

    seconds: float = 3600.0
    memory: int = 0


def run_part(
    part: str,
    request: Request,
    limits: Limits,
    tell: Callable[[Line], None] = lambda line: None,
    environment: dict[str, str] | None = None,
) -> list[Line]:
    """The lines of a part; the last one, ``ENDED``, fails if its process did not end well.

    Args:
      part: a module of ``tffold.check`` with ``check(request)``, which yields lines.
      tell: called with each line as it comes.
      environment: of the process; default: this one's.
    """
    lines: list[Line] = []

    def add(line: Line) -> None:
        lines.append(line)
        tell(line)

    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tffold.check.child", part],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C comes to this process alone, which ends the other
        )
        try:
            with contextlib.suppress(BrokenPipeError):  # it died before it read
                process.stdin.write(json.dumps(_packed(request)))
                process.stdin.close()
            with _watched(process, limits) as verdict:
                for text in process.stdout:
                    if text.startswith(MARK):
                        add(Line(**json.loads(text.removeprefix(MARK))))
                code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        errors.seek(0)
        said = errors.read()
    if code or verdict:
        add(_ended(part, code, verdict, said))
    return lines


def _ended(part: str, code: int, verdict: list[str], said: str) -> Line:
    """Why a part's process died, as far as can be told."""
    text = [line for line in said.splitlines() if line.strip()]
    memory = any(word in said for word in _OUT_OF_MEMORY_WORDS)
    if verdict:
        why, memory = verdict[0], "memory" in verdict[0]
    elif code == -signal.SIGKILL:
        why, memory = "it was killed, most likely by the system because memory ran out", True
    elif code < 0:
        why = f"it died by {signal.Signals(-code).name}"
    elif memory:
        why = "out of memory"
    else:
        why = text[-1] if text else f"exit code {code}"
    values = {"exit_code": code, OUT_OF_MEMORY: memory, "last_words": text[-30:]}
    return Line(part, ENDED, FAIL, f"{why} (last words are in the report)", values)


@contextlib.contextmanager
def _watched(process: subprocess.Popen, limits: Limits) -> Iterator[list[str]]:
    """Kills a process that takes too long or too much; the list then says which."""
    verdict: list[str] = []
    done = threading.Event()
    deadline = time.monotonic() + limits.seconds

    def watch() -> None:
        while not done.wait(0.1):
            if time.monotonic() > deadline:
                verdict.append(f"no answer in {limits.seconds:g} s; it hung or is too slow")
            elif limits.memory and resident(process.pid) > limits.memory:
                verdict.append(f"it took more than {limits.memory / 1e9:.2f} GB of memory")
            if verdict:
                process.kill()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield verdict
    finally:
        done.set()
        thread.join()


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 where that cannot be told."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_memory() -> int:
    """Bytes of the host's memory that a new process can have; 0 where that cannot be told."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else 0


def _packed(request: Request) -> dict[str, Any]:
    return finite(asdict(request))


def main(part: str) -> int:
    """Entry point of the process."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    tree = json.load(sys.stdin)
    request = Request(config_file.from_dict(tree.pop("config"), "tffold-check"), **tree)
    module = importlib.import_module(f"tffold.check.{part}")
    if request.cpu_devices > 1:
        make_cpu_devices(request.cpu_devices)
    for line in module.check(request):
        print(MARK + json.dumps(finite(asdict(line))), flush=True)
    return 0


def make_cpu_devices(count: int) -> None:
    """So many logical devices of the processor; before TensorFlow has touched any."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
