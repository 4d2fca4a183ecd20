"""The one error that bad input raises: it names the file, the item and the mend."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used, described for the person who must mend it.

    Args:
        what: what is wrong, in a few words.
        file: the file or folder in which it was found.
        item: the chain, record, feature, line … in that file.
        mend: what to do about it.
    """

    def __init__(
        self, what: str, *, file: object = None, item: object = None, mend: str | None = None
    ) -> None:
        self.what = what
        self.file = None if file is None else str(file)
        self.item = None if item is None else str(item)
        self.mend = mend
        where = ": ".join(part for part in (self.file, self.item) if part)
        message = f"{where}: {what}" if where else what
        if mend:
            message = f"{message} ({mend})"
        super().__init__(" ".join(message.split()))


class CorruptRecordError(InputError):
    """A record whose bytes are damaged: the reader may skip it (``data.on_corrupt=skip``)."""
