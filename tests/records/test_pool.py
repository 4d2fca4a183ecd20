"""Chains that hang or kill their process: rejected with the reason, and nobody else."""

import ctypes
import os
import signal
from dataclasses import replace
from functools import partial
from unittest import mock

import pytest
from conversions import conversion_of, manifest, records_of

from records import convert as convert_module
from records import engine, pool
from records.convert import convert_file


def hang():
    """Waits in C for a lock that never comes, deaf to Python's signals, holding its lock."""
    libc = ctypes.PyDLL(None)
    lock = ctypes.create_string_buffer(64)
    for _ in range(2):
        libc.pthread_mutex_lock(lock)


def crash():
    ctypes.string_at(0)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {
    "hang": (hang, "took longer than 5 s"),
    "crash": (crash, "the worker process died (SIGSEGV)"),
    "killed": (killed, "the worker process died (SIGKILL, out of memory?)"),
}


def faulty(fault, task, options, start=0, most=None):
    """In a worker: ``convert_file``, but chain B of 1lcd does as the fault says."""
    convert = convert_module._convert

    def one(task, name, options):
        if (task.name, name) == ("1lcd", "B"):
            FAULTS[fault][0]()
        return convert(task, name, options)

    with mock.patch.object(convert_module, "_convert", one):
        return convert_file(task, options, start, most)


@pytest.mark.parametrize(
    ("fault", "workers"),
    [("hang", 2), ("crash", 1), ("crash", 2), ("killed", 1), ("killed", 2)],
)
def test_a_chain_at_fault_takes_nobody_with_it(tmp_path, monkeypatch, fault, workers):
    monkeypatch.setattr(pool, "convert_file", partial(faulty, fault))
    conversion = conversion_of()
    tasks = [task for task in conversion.tasks if task.name in ("1lcd", "1pzp", "1ubq")]
    conversion = replace(
        conversion, tasks=tasks, options=replace(conversion.options, chain_timeout=5)
    )
    engine.run(conversion, tmp_path, workers=workers, progress=False)
    lines = manifest(tmp_path)
    assert list(lines) == ["1lcd_A", "1lcd_B", "1lcd_C", "1pzp_A", "1ubq_A"]
    assert lines["1lcd_B"]["status"] == "rejected"
    assert lines["1lcd_B"]["reason"] == f"{tasks[0].path}: {FAULTS[fault][1]}"
    assert "nucleic acid" in lines["1lcd_C"]["reason"]
    assert list(records_of(tmp_path)) == ["1lcd_A", "1pzp_A", "1ubq_A"]


def test_a_worker_that_dies_between_two_files_is_replaced():
    conversion = conversion_of()
    processes = pool._Pool(1, conversion.options)
    first = processes.submit(pool._Job(0, conversion.tasks[0], 0))
    assert first.future.result()[0][0].chain_id == "1a7g_E"
    (worker,) = processes._processes._pool_manager.worker_manager.workers
    os.kill(worker, signal.SIGKILL)
    while processes._processes.active:
        pass
    waiting = [processes.submit(pool._Job(1, conversion.tasks[1], 0))]
    with pytest.raises(pool.BrokenProcessPool):
        waiting[0].future.result()
    processes.mend(waiting)
    assert waiting[0].future.result()[0][0].chain_id == "1a8o_A"
    processes.close()
