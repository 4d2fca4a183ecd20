"""Part 1: what this machine is, and whether TensorFlow can use it.

What must not wait for TensorFlow (two builds of it, a libtpu that aborts) is found by
``installed``, which imports none of it; ``check`` runs in a process that may die.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from tffold.check.child import Request, available_memory
from tffold.check.report import FAIL, PASS, Line, judge, left_out, measured

PART = "machine"
BUILDS = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tf-nightly", "tf-nightly-cpu")
_FAST_MATH = re.compile(r"fast_math(?:=true|=1)?(?:\s|$)|fast_min_max(?:=true|=1)?(?:\s|$)")
_CACHE_FLAG = "--tf_xla_persistent_cache_directory"
_BUSY_SHARE = 0.05  # of a GPU's memory; what a desktop takes is less
_DISTRIBUTION = "tffold"


def versions_installed() -> dict[str, str]:
    """Of every build of TensorFlow and of libtpu that is installed."""
    found = {}
    for name in (*BUILDS, "libtpu"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def wanted_versions() -> dict[str, Requirement]:
    """What this package says of each build of TensorFlow, and of libtpu beside one."""
    found = {}
    for requirement in map(Requirement, metadata.requires(_DISTRIBUTION) or []):
        beside_tpu = requirement.name == "libtpu" and 'extra == "tpu"' in str(requirement.marker)
        if requirement.name in BUILDS or beside_tpu:
            found[requirement.name] = requirement
    return found


def installed(versions: Mapping[str, str], wanted: Mapping[str, Requirement]) -> Iterator[Line]:
    """What the lists of installed packages tell, before any of them is imported."""
    builds = {name: version for name, version in versions.items() if name in BUILDS}
    text = ", ".join(f"{name} {version}" for name, version in builds.items())
    if not builds:
        mend = "pip install 'tffold[cpu]', 'tffold[gpu]' or 'tffold[tpu]' (exactly one of them)"
        yield Line(PART, "tensorflow", FAIL, f"no TensorFlow is installed: {mend}")
        return
    if len(builds) > 1:
        mend = f"pip uninstall -y {' '.join(builds)}, then install one"
        yield Line(
            PART, "tensorflow", FAIL, f"{text}: they overwrite each other's files: {mend}", builds
        )
        return
    ((name, version),) = builds.items()
    requirement = wanted.get(name)
    good = requirement is not None and Version(version) in requirement.specifier
    range_text = f"{requirement.specifier}" if requirement else "another build"
    text = text if good else f"{text}, where {range_text} is wanted: pip install '{requirement}'"
    yield judge(PART, "tensorflow", good, text, **builds)
    if name == "tensorflow-tpu":
        yield _libtpu(versions.get("libtpu"), wanted["libtpu"])


def _libtpu(version: str | None, requirement: Requirement) -> Line:
    mend = f"pip install '{requirement.name}{requirement.specifier}'"
    if version is None:
        return Line(PART, "libtpu", FAIL, f"not installed: {mend}")
    good = Version(version) in requirement.specifier
    text = version if good else f"{version} aborts when TensorFlow's TPU build starts: {mend}"
    return judge(PART, "libtpu", good, text, version=version)


def check(request: Request) -> Iterator[Line]:
    """What TensorFlow itself tells, and what each device computes."""
    import tensorflow as tf

    from tffold.weights.checkpoint import versions

    yield measured(
        PART,
        "software",
        ", ".join(f"{name} {version}" for name, version in versions().items()),
        system=platform.platform(),
        build={k: str(v) for k, v in tf.sysconfig.get_build_info().items()},
        **versions(),
    )
    cores, memory = len(os.sched_getaffinity(0)), available_memory()
    yield measured(
        PART, "host", f"{cores} cores, {memory / 1e9:.1f} GB of memory free", cores=cores,
        free_bytes=memory,
    )  # fmt: skip
    accelerators = [d for d in tf.config.list_physical_devices() if d.device_type != "CPU"]
    yield from accelerator_lines(accelerators, nvidia_smi(), tpu_files())
    yield from flag_lines(os.environ)
    if request.config.train.strategy == "tpu":
        yield left_out(PART, "devices compute", "a TPU is reached in the next parts")
        return
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    for device in tf.config.list_logical_devices(kind):
        yield device_line(device.name)


def accelerator_lines(
    accelerators: list[Any], gpus: list[dict[str, str]], tpus: list[str]
) -> Iterator[Line]:
    """Whether TensorFlow sees the accelerators that the system sees, and whether they are free."""
    import tensorflow as tf

    for number, device in enumerate(d for d in accelerators if d.device_type == "GPU"):
        details = tf.config.experimental.get_device_details(device)
        gpu = gpus[number] if number < len(gpus) else {}
        text = ", ".join(
            [str(details.get("device_name", "unknown kind"))]
            + [f"{name} {value}" for name, value in gpu.items() if name != "name"]
        )
        values = {"capability": str(details.get("compute_capability"))}
        values |= {f"gpu_{key.replace('.', '_')}": value for key, value in gpu.items()}
        yield measured(PART, f"gpu {number}", text, **values)
    seen = sum(device.device_type == "GPU" for device in accelerators)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus and not seen:
        why = (
            f"CUDA_VISIBLE_DEVICES={hidden} hides them"
            if hidden is not None
            else "pip install 'tffold[gpu]', or a newer driver"
        )
        yield Line(
            PART, "accelerators", FAIL, f"{len(gpus)} GPUs are here, TensorFlow sees none: {why}"
        )
    elif tpus and not any(device.device_type == "TPU" for device in accelerators):
        yield Line(
            PART,
            "accelerators",
            FAIL,
            f"a TPU is here ({tpus[0]}), but this TensorFlow cannot use it or another process "
            "holds it: pip install 'tffold[tpu]', end the other process",
        )
    elif accelerators:
        names = ", ".join(device.name for device in accelerators)
        yield Line(PART, "accelerators", PASS, f"TensorFlow sees {names}")
    else:
        yield measured(PART, "accelerators", "none: everything runs on the processor")
    for number, gpu in enumerate(gpus if seen else []):
        used, total = (_mib(gpu.get(key, "")) for key in ("memory.used", "memory.total"))
        if total and used > _BUSY_SHARE * total:
            text = f"{used:.0f} of {total:.0f} MiB are taken: end the other process (nvidia-smi)"
            yield Line(PART, f"gpu {number} is free", FAIL, text)


def _mib(text: str) -> float:
    found = re.match(r"([\d.]+)", text)
    return float(found[1]) if found else 0.0


def nvidia_smi() -> list[dict[str, str]]:
    """What the driver's own tool says of each GPU; empty without it."""
    if shutil.which("nvidia-smi") is None:
        return []
    keys = ("name", "driver_version", "memory.total", "memory.used", "power.limit")
    try:
        run = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(keys)}", "--format=csv,noheader"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    if run.returncode:
        return []
    rows = [line.split(", ") for line in run.stdout.splitlines() if line.strip()]
    return [dict(zip(keys, row, strict=False)) for row in rows]


def tpu_files() -> list[str]:
    """The device files of a TPU that hangs on this very machine."""
    return sorted(str(path) for path in Path("/dev").glob("accel*"))


def flag_lines(environment: Mapping[str, str]) -> Iterator[Line]:
    """Settings of XLA and TensorFlow that decide numbers or cost time."""
    import tensorflow as tf

    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    yield measured(
        PART,
        "tf32",
        f"TensorFlow's switch is {'on' if enabled else 'off'}: float32 products on GPUs and TPUs "
        f"are {'rounded to fewer bits' if enabled else 'full float32'}; see 'numbers'",
        enabled=enabled,
    )
    flags = " ".join(environment.get(name, "") for name in ("XLA_FLAGS", "TF_XLA_FLAGS"))
    fast = _FAST_MATH.search(flags)
    text = "off" if not fast else f"'{fast[0].strip()}' in XLA_FLAGS hides NaN: remove it"
    yield judge(PART, "fast math", not fast, text, flags=flags)
    cached = _CACHE_FLAG in flags
    text = (
        "kept from one start to the next"
        if cached
        else (f"compiled anew at each start; TF_XLA_FLAGS={_CACHE_FLAG}=DIR keeps them")
    )
    yield measured(PART, "compiled programs", text, cached=cached)


def device_line(name: str) -> Line:
    """A product and a test for NaN, compiled by XLA for one device, against NumPy."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(0)
    a, b = random.integers(-8, 8, (2, 256, 256)).astype(np.float32)
    a[0, 0] = np.nan

    @tf.function(autograph=False, jit_compile=True)
    def compute(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.where(tf.math.is_finite(a), a, 0.0) @ b, tf.math.is_finite(a @ b)

    short = name.rpartition("device:")[2] or name
    label = f"{short} computes"
    try:
        with tf.device(name):
            product, finite = compute(tf.constant(a), tf.constant(b))
    except tf.errors.OpError as error:
        return Line(PART, label, FAIL, str(error.message).splitlines()[0])
    where = product.device.rpartition("device:")[2]
    if where != short:
        return Line(PART, label, FAIL, f"the result lies on {where}: TensorFlow moved the work")
    a[0, 0] = 0.0
    # Small integers: exact in every precision that a device may use.
    if not np.array_equal(product.numpy(), a @ b):
        return Line(PART, label, FAIL, "a matrix product of small integers is wrong")
    if bool(finite.numpy()[0].any()) or not bool(finite.numpy()[1:].all()):
        return Line(PART, label, FAIL, "NaN goes unseen in compiled code: fast math is on")
    return Line(PART, label, PASS, "products are right, NaN is seen")
