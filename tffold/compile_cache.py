"""Compiled programs kept on disk, so that the next process need not compile them again."""

from __future__ import annotations

import argparse
import hashlib
import os
from importlib import metadata
from pathlib import Path

from records.errors import InputError

FLAGS = "TF_XLA_FLAGS"
NOWHERE = "none"
_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu")


def default_folder() -> Path:
    """Where programs are kept unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tffold" / "xla"


def add_option(parser: argparse._ActionsContainer) -> None:
    """``--compile-cache``, for ``use``."""
    parser.add_argument(
        "--compile-cache",
        default="",
        metavar="DIR",
        help=f"where compiled programs are kept (default {default_folder()}; '{NOWHERE}': nowhere)",
    )


def use(option: str) -> bool:
    """As ``--compile-cache`` asks; whether programs are kept.  Raises as ``enable``."""
    if option == NOWHERE:
        return False
    enable(option or default_folder())
    return True


def enable(folder: str | os.PathLike) -> Path:
    """Lets XLA keep what it compiles below ``folder``; call before TensorFlow is imported.

    TensorFlow tells programs apart by their content, not by what machine code they became, so
    each version and each kind of processor gets a folder of its own.

    Raises:
      InputError: the folder cannot be made.
    """
    cache = Path(folder) / _machine()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made: {error.strerror}", file=cache, mend="name another --compile-cache"
        ) from None
    flags = f"--tf_xla_persistent_cache_directory={cache} --tf_xla_persistent_cache_prefix=tffold"
    os.environ[FLAGS] = f"{os.environ.get(FLAGS, '')} {flags}".strip()
    return cache


def _machine() -> str:
    """The TensorFlow version, and a hash of the processor's abilities."""
    version = next(filter(None, map(_version, _PACKAGES)), "none")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    abilities = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return f"{version}-{hashlib.sha256(''.join(sorted(set(abilities))).encode()).hexdigest()[:12]}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
