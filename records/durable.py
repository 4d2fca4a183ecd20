"""Making what was written outlive a crash: files and folders forced to the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


def sync_file(file: IO) -> None:
    """Forces what was written to ``file`` so far to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Forces names made or changed in ``folder`` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
