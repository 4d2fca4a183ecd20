"""Measures exported steps on this machine's device with JAX, beside DeepMind's network.

    python run.py FOLDER [--steps 10] [--json OUT.json]

FOLDER is what ``export.py`` wrote and holds this script too; nothing of tffold and no TensorFlow
is needed. First the small cases: their numbers against those that TensorFlow computed. Then each
program's compile time, seconds a step and peak memory; and where the packages of DeepMind's network
are here too (see ``benchmarks/peers/run.py`` for their names), its step on the same batch in
both precisions, in turn with ours in the same process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import arguments
import jax
import numpy as np

# The largest difference relative to the largest value. Sums run in another order on another
# device; in bfloat16 a step away from a normal start is noise for weights that hardly move.
TOLERANCE = {"check": 2e-3, "check_bfloat16": 0.2}


class Program:
    """An XLA program compiled for the first device, whose first results replace its arguments."""

    def __init__(self, folder: Path) -> None:
        self.case = json.loads((folder / "case.json").read_text())
        self.batch = dict(np.load(folder / "batch.npz"))
        device = jax.devices()[0]
        start = time.perf_counter()
        self._executable = _compile((folder / "program.hlo").read_bytes(), device)
        self.compile_seconds = time.perf_counter() - start
        given = arguments.make(self.case["specs"], self.batch)
        self.start = given[: self.case["num_state"]]
        self._state = [jax.device_put(x, device) for x in self.start]
        self._features = [jax.device_put(x, device) for x in given[self.case["num_state"] :]]

    def step(self) -> list[np.ndarray]:
        """One step; the logs' values."""
        results = self._executable.execute([*self._state, *self._features])
        count = self.case["num_state"]
        self._state = results[:count]
        return [np.asarray(x) for x in results[count:]]

    def moved(self) -> list[float]:
        """How far each array of the state is from where it began."""
        pairs = zip(self._state, self.start, strict=True)
        return [float(np.linalg.norm(np.float64(np.asarray(a)) - b)) for a, b in pairs]


def _compile(program: bytes, device: Any) -> Any:
    from jax._src.interpreters import mlir
    from jax._src.lib.mlir import ir
    from jaxlib import xla_client

    computation = xla_client.XlaComputation(program)
    text = xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        devices = xla_client.DeviceList((device,))
        options = xla_client.CompileOptions()
        return device.client.compile_and_load(module, devices, options)


def check(folder: Path) -> dict[str, float]:
    """The largest relative differences of a small case's logs and movements."""
    program = Program(folder)
    values = program.step()

    def difference(found: list[float], wanted: list[float]) -> float:
        found, wanted = np.array(found), np.array(wanted)
        return float(np.max(np.abs(found - wanted)) / np.max(np.abs(wanted)))

    logs = zip(program.case["logs"], values, program.case["values"], strict=True)
    losses = [(found.item(), *wanted) for name, found, wanted in logs if name.startswith("loss")]
    return {
        "losses": max(abs(a - b) / max(abs(b), 1e-3) for a, b in losses),
        "moved": difference(program.moved(), program.case["moved"]),
    }


def peak_gib() -> float | None:
    """The most memory that the device held so far, if it tells."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats["peak_bytes_in_use"] / 2**30 if "peak_bytes_in_use" in stats else None


def timed(step: Any, steps: int) -> list[float]:
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def deepminds(folder: Path, bfloat16: bool, sizes: dict[str, int]) -> Any:
    """A function that takes one step of DeepMind's network on the case's batch."""
    import deepmind_step
    import jax.numpy as jnp

    batch = {n: jnp.asarray(x[0]) for n, x in np.load(folder / "batch.npz").items()}
    options = argparse.Namespace(
        templates=False, bf16=bfloat16, no_remat=False,
        evoformer_blocks=sizes["evoformer"], extra_msa_blocks=sizes["extra_blocks"],
    )  # fmt: skip
    parameters, loss = deepmind_step.build(deepmind_step.network_config(options), batch)
    zeros = jax.tree_util.tree_map(jnp.zeros_like, parameters)
    holder = [(parameters, zeros, zeros, parameters, jnp.float32(0))]
    jitted = deepmind_step.training_step(loss)

    def step() -> None:
        holder[0], value = jitted(holder[0], jax.random.PRNGKey(0), batch)
        float(value)

    return step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = jax.devices()[0]
    report: dict[str, Any] = {"device": device.device_kind, "jax": jax.__version__}
    print(f"{device.device_kind}, jax {jax.__version__}")
    failed = False
    for name, tolerance in TOLERANCE.items():
        found = check(options.folder / name)
        good = max(found.values()) <= tolerance
        failed |= not good
        report[name] = found
        print(f"{name}: {found} {'pass' if good else f'FAIL, {tolerance} allowed'}", flush=True)

    full = [n for n in ("float32", "bfloat16") if (options.folder / n).is_dir()]
    for name in full or ["check", "check_bfloat16"]:
        folder = options.folder / name
        program = Program(folder)
        program.step()
        ours, line = [], {"compile_seconds": program.compile_seconds}
        theirs: list[float] = []
        peer = None
        try:
            sizes = json.loads((folder / "sizes.json").read_text())
            peer = deepminds(folder, "bfloat16" in name, sizes)
            start = time.perf_counter()
            peer()
            line["deepmind_first_seconds"] = time.perf_counter() - start
        except ImportError as error:
            print(f"DeepMind's network is not here: {error}", flush=True)
        for _ in range(options.rounds):
            ours += timed(program.step, options.steps)
            if peer is not None:
                theirs += timed(peer, options.steps)
        line["step_seconds"] = statistics.median(ours)
        if theirs:
            line["deepmind_step_seconds"] = statistics.median(theirs)
            line["ratio"] = line["step_seconds"] / line["deepmind_step_seconds"]
        line["peak_gib_of_both"] = peak_gib()
        report[f"{name}_step"] = line
        print(f"{name}: {line}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
