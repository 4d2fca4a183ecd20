"""The journal of a conversion whose output lies on a store.

A store cannot append to a file.  The journal itself lies in a work folder on this host; whenever
a shard is complete, what was added to it goes to the store as a further piece, which is never
changed.  A run on another host puts the pieces together and goes on.  They are read by number
until one is missing: nothing depends on a listing.
"""

from __future__ import annotations

from pathlib import Path

from records import paths
from records.errors import InputError


class JournalCopy:
    """The pieces of one part's journal on the store.

    Args:
        output: the conversion's folder on a store.
        path: of the journal on this host; the pieces have its name and a number.
    """

    def __init__(self, output: str, path: Path) -> None:
        self._output, self._path = output, path
        self._count = self._sent = 0

    def _piece(self, number: int) -> str:
        return paths.join(self._output, f"{self._path.name}.{number:06d}")

    def take_over(self) -> None:
        """Gives this host the store's journal, unless this host's goes on where that ends."""
        pieces = []
        while True:
            try:
                pieces.append(paths.read_bytes(self._piece(len(pieces))))
            except paths.MissingError:
                break
        far = b"".join(pieces)
        here = self._path.read_bytes() if self._path.exists() else b""
        if not here.startswith(far):
            self._path.write_bytes(far)
        self._count, self._sent = len(pieces), len(far)

    def send(self) -> None:
        """Adds to the store what the journal has gained.

        Raises:
            InputError: another host has gone on with this conversion meanwhile.
        """
        data = self._path.read_bytes()[self._sent :]
        if not data:
            return
        piece = self._piece(self._count)
        if paths.exists(piece):
            raise InputError(
                "another process is converting into this folder", file=self._output,
                mend="end it, or choose another --output",
            )  # fmt: skip
        paths.write_whole(piece, data)
        self._count, self._sent = self._count + 1, self._sent + len(data)

    def remove(self) -> None:
        """Removes all pieces, the last first, so that what is left is still a beginning."""
        for number in reversed(range(self._count)):
            paths.remove(self._piece(number))
