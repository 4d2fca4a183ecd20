"""``tffold-data-worker``: makes training examples for runs on other machines (tf.data service)."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from records.arguments import ShowVersion
from records.errors import InputError
from tffold.cli.fit import EXIT_INPUT, NO_TENSORFLOW
from tffold.config_file import host_and_port

PORT = 5050
_FORGET_MS = 10_000  # the work for trainers that are gone


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _servers = _start(options)
        while True:
            signal.pause()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        # To stop the servers would be to wait for trainers; they lose nothing by an end like this.
        sys.stdout.flush()
        os._exit(0)
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(options: argparse.Namespace) -> list[Any]:
    """The servers that were asked for, running.

    Raises:
        InputError: a port is taken, or no dispatcher answers.
    """
    if options.address:
        place = host_and_port(options.address, "the dispatcher's address")
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(NO_TENSORFLOW)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the accelerators are for those who train
    import tensorflow as tf

    from tffold.data.service import wait_for_dispatcher

    service = tf.data.experimental.service
    servers = []
    if options.address:
        wait_for_dispatcher(options.address, options.wait)
        host = options.host or _own_address(*place)
    else:
        place = ("localhost", options.port)
        host = options.host or socket.gethostname()
        config = service.DispatcherConfig(
            port=options.port,
            protocol="grpc",
            work_dir=options.state or None,
            fault_tolerant_mode=bool(options.state),
            job_gc_check_interval_ms=_FORGET_MS,
            job_gc_timeout_ms=_FORGET_MS,
        )
        servers.append(_server(service.DispatchServer, config))
        print(f"dispatcher ready: set data.service=grpc://{host}:{options.port}", flush=True)
    for number in range(options.workers):
        config = service.WorkerConfig(
            dispatcher_address=_joined(*place),
            worker_address=_joined(host, "%port%"),
            port=options.worker_port + number if options.worker_port else 0,
            protocol="grpc",
        )
        servers.append(_server(service.WorkerServer, config))
        print(f"worker ready at {host}", flush=True)
    return servers


def _server(kind: Any, config: Any) -> Any:
    """A running server."""
    if config.port:
        try:  # gRPC would share a port that is taken
            with socket.socket() as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind(("", config.port))
        except OSError as error:
            raise InputError(
                f"port {config.port} cannot be had: {error.strerror}",
                mend="give another one, or stop the program that has it",
            ) from None
    try:
        return kind(config)
    except Exception as error:  # TensorFlow raises several kinds
        raise InputError(f"the server does not start: {error}") from None


def _joined(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _own_address(host: str, port: int) -> str:
    """This machine's address on the way to another."""
    family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as way:
        way.connect(place)  # sends nothing
        return way.getsockname()[0]


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 1 << 16:
        raise ValueError
    return port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tffold-data-worker",
        description="Make training examples for runs on other machines, which name the dispatcher "
        "in data.service. Shards must lie where workers see them under the same names.",
        epilog="SIGTERM and Ctrl-C end it with exit code 0.",
    )
    parser.add_argument("--version", action=ShowVersion)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "address", nargs="?", metavar="grpc://HOST:PORT", help="work for this dispatcher"
    )
    where.add_argument(
        "--dispatcher", action="store_true", help="start the dispatcher here, and workers with it"
    )
    parser.add_argument(
        "--port", type=_port, default=PORT, help="the new dispatcher's (default %(default)s)"
    )
    parser.add_argument(
        "--state",
        metavar="FOLDER",
        default="",
        help="where the new dispatcher keeps what it needs to go on when it is started again",
    )
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(65),
        metavar="N",
        default=1,
        help="in this process; one uses all cores, 0 starts a dispatcher alone "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--worker-port",
        type=_port,
        metavar="PORT",
        help="the first worker's; the next have the next (default: any that is free)",
    )
    parser.add_argument(
        "--host",
        help="the name by which trainers reach this machine (default: its name with --dispatcher, "
        "else its address on the way to the dispatcher)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        default=60.0,
        help="for the dispatcher to answer (default %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
