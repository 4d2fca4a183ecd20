"""Stores behind URLs: how they are reached, what is tried again, and what their errors mean.

``records.paths`` is what others use.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import fsspec
import fsspec.config

from records.errors import InputError

Value = TypeVar("Value")

# gcsfs reads it when it is imported.  Its gRPC way, for buckets with folders, takes minutes where
# a server has none.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

# Seconds between one try and the next; the stores' own packages try again, too, within each.
WAITS = (0.2, 1.0, 4.0, 15.0)
TIMEOUT = 60.0  # seconds without a byte after which a request is tried again
_TEMPORARY = (408, 425, 429)
# Packages whose errors, where they are none of those named below, are the network's.
_NETWORK = ("aiohttp", "aiobotocore", "asyncio", "botocore", "gcsfs", "google", "requests",
            "urllib3", "http", "fsspec")  # fmt: skip
_REGION = ("301", "PermanentRedirect", "AuthorizationHeaderMalformed",
           "IllegalLocationConstraintException")  # fmt: skip
_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
         "RequestTimeTooSkewed")  # fmt: skip
_NO_ANSWER = "the store does not answer as it should"
SIGN_IN = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or run 'aws configure'",
    "gs": "run 'gcloud auth application-default login' or set GOOGLE_APPLICATION_CREDENTIALS",
}


class MissingError(InputError):
    """There is no such file or folder."""


class UnreachableError(InputError):
    """A store does not answer, or does not know us: nothing is said of what lies there."""


def scheme(url: str) -> str:
    """The store's kind: 's3', 'gs', 'https', 'memory' …"""
    kind = url.split("://", 1)[0]
    return {"gcs": "gs", "s3a": "s3"}.get(kind, kind)


def filesystem(url: str) -> fsspec.AbstractFileSystem:
    """The file system of a URL; the same one for each store and process.  Raises InputError."""
    return _filesystem(scheme(url), os.getpid())


@functools.lru_cache(maxsize=32)
def _filesystem(kind: str, process: int) -> fsspec.AbstractFileSystem:
    del process  # connections do not survive a fork
    try:
        return fsspec.filesystem(kind, **_options(kind))
    except ImportError as error:
        raise InputError(
            f"{kind}:// needs a package that is not installed",
            file=f"{kind}://", mend="pip install 'tffold[cloud]'",
        ) from error  # fmt: skip
    except ValueError as error:
        raise InputError(
            "no such kind of store", file=f"{kind}://", mend="s3://, gs:// and https:// are known"
        ) from error


def reach(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL, and the name that it has there."""
    store = filesystem(url)
    return store, store._strip_protocol(url)


def _options(kind: str) -> dict[str, Any]:
    """What the store's package is told, below what the user's configuration of fsspec says."""
    options: dict[str, Any] = {}
    if kind in ("s3", "gs"):
        options["use_listings_cache"] = False  # other processes write there, too
    if kind == "s3":
        options["config_kwargs"] = {
            "connect_timeout": TIMEOUT / 3,
            "read_timeout": TIMEOUT,
            "retries": {"max_attempts": 1},
            "max_pool_connections": 64,
        }
        options["anon"] = _no_aws_credentials()
    if kind == "gs":
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs what is tried again
        options["timeout"] = TIMEOUT
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            options["token"] = "anon"
    given = fsspec.config.conf.get("gcs" if kind == "gs" else kind, {})
    return {key: value for key, value in options.items() if key not in given}


def _no_aws_credentials() -> bool:
    import botocore.session

    return botocore.session.Session().get_credentials() is None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _codes(error: BaseException) -> set[str]:
    """The store's own codes for what went wrong, with HTTP's status among them."""
    codes: set[str] = set()
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            codes.add(str(response.get("Error", {}).get("Code", "")))
            codes.add(str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")))
        for key in ("code", "status"):
            if isinstance(getattr(one, key, None), int | str):
                codes.add(str(getattr(one, key)))
    return codes


def beyond_the_end(error: BaseException) -> bool:
    """Whether a range of a file was asked for that begins where the file has ended."""
    return bool(_codes(error) & {"416", "InvalidRange"})


def _may_pass(error: BaseException) -> bool:
    """Whether waiting may help with a store's error that has no clear cause."""
    statuses = [int(code) for code in _codes(error) if code.isdigit()]
    return not any(400 <= status < 500 and status not in _TEMPORARY for status in statuses)


def _is_store(error: BaseException) -> bool:
    """Whether the store or the way to it failed, not this program."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in _NETWORK


def refused(place: str, error: BaseException, *, writing: bool = False) -> InputError:
    """The error to tell the user for what a disk or a store answered."""
    if isinstance(error, InputError):
        return error
    if "://" not in place:
        kind = MissingError if isinstance(error, FileNotFoundError) else InputError
        what = "no such file or folder" if kind is MissingError else error.strerror or str(error)
        return kind(what, file=place, mend="check the path")
    if _codes(error) == {"400"} and scheme(place) == "s3":
        error = _why(place) or error
    codes, text = _codes(error), " ".join(str(one) for one in _chain(error))
    names = {type(one).__name__ for one in _chain(error)}
    sign_in = SIGN_IN.get(scheme(place), "sign in to the store")
    if "NoSuchBucket" in codes or "bucket does not exist" in text.lower():
        return MissingError("no such bucket", file=place, mend="check the bucket's name")
    if codes & set(_REGION) or (codes & {"400"} and "region" in text.lower()):
        return InputError(
            "the bucket is in another region", file=place, mend="set AWS_REGION to the bucket's"
        )
    if isinstance(error, FileNotFoundError) or codes & {"404", "NoSuchKey"}:
        if not writing and not _bucket_there(place):
            return MissingError("no such bucket", file=place, mend="check the bucket's name")
        if writing:
            return MissingError("no such bucket", file=place, mend="make the bucket first")
        return MissingError(
            "no such file or folder", file=place,
            mend="check the URL; it may have been removed since it was listed",
        )  # fmt: skip
    if codes & set(_KEYS):
        return UnreachableError("the credentials are not valid", file=place, mend=sign_in)
    if names & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError",
                "TokenRetrievalError"} or "401" in codes:  # fmt: skip
        return UnreachableError("no credentials for this store", file=place, mend=sign_in)
    if isinstance(error, PermissionError) or "403" in codes or text.startswith("Forbidden"):
        anonymous = getattr(filesystem(place), "anon", False)
        if anonymous:
            return InputError("no credentials, and strangers may not", file=place, mend=sign_in)
        right = "write" if writing else "read and list"
        return InputError("forbidden", file=place, mend=f"ask for the right to {right} there")
    if isinstance(error, NotImplementedError):
        return InputError("this store cannot do that", file=place, mend="use another store")
    detail = str(error).splitlines()[0][:200] if str(error) else ""
    return UnreachableError(
        f"{_NO_ANSWER} ({type(error).__name__}: {detail})",
        file=place, mend="check the network and the store, then run the same command again",
    )  # fmt: skip


def _why(url: str) -> Exception | None:
    """What S3 says to a listing: its answers to HEAD have no body to say why it refuses."""
    bucket = url.split("://", 1)[1].split("/", 1)[0]
    try:
        filesystem(url).call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
    except Exception as error:
        return error
    return None


def _bucket_there(url: str) -> bool:
    """Whether the bucket of a missing file is there; yes where that cannot be found out."""
    if scheme(url) not in ("s3", "gs"):
        return True
    bucket = url.split("://", 1)[1].split("/", 1)[0]
    try:
        return bool(filesystem(url).exists(bucket))
    except Exception:  # only the message depends on it
        return True


def retried(place: str, act: Callable[[], Value], *, writing: bool = False) -> Value:
    """What ``act`` returns, tried again while the network or the store fails.

    Raises:
        InputError: trying again does not help, or has not helped.
    """
    for wait in (*WAITS, None):
        try:
            return act()
        except InputError:
            raise
        except Exception as error:
            if not _is_store(error) and not isinstance(error, NotImplementedError):
                raise
            told = refused(place, error, writing=writing)
            if wait is None or not told.what.startswith(_NO_ANSWER) or not _may_pass(error):
                raise told from error
        time.sleep(wait * (0.5 + random.random()))
    raise AssertionError("unreachable")
