"""Compiles an XLA program for a TPU that is not there; run as a process of its own.

    python -m tffold.plan.tpu PROGRAM TOPOLOGY NUM_IN_PLACE RESULT.json OPTIMIZED.txt

libtpu, reached through JAX's ahead-of-time topologies, compiles for every chip it knows. It
reads its settings from the environment at its start, so it gets a process.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # the lock is for real TPUs
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NUMBER = r"([\d.]+)([KMGT]?)"
_TOO_LARGE = (  # two ways in which libtpu says it
    re.compile(rf"Used {_NUMBER} of {_NUMBER} hbm"),
    re.compile(rf"temporaries \({_NUMBER}\) exceeds available HBM \({_NUMBER}\)"),
)


def compile_program(program: bytes, topology: str, num_in_place: int) -> tuple[dict[str, Any], str]:
    """What libtpu says of a serialised XLA program, and the optimised program's text.

    Args:
      topology: for example ``v5e:2x2``.
      num_in_place: the first so many results take the memory of the arguments of their number.

    Returns:
      ``cores``, ``kind``, ``compile_seconds``, ``arguments``, ``outputs``, ``temporaries``,
      ``in_place`` and ``program`` in bytes; or ``needed`` and ``usable``, where it does not fit.
      The text is empty where it cannot be had.
    """
    from jax._src.interpreters import mlir
    from jax._src.lib.mlir import ir
    from jax.experimental import topologies
    from jaxlib import xla_client

    description = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    device = description.devices[0]
    result: dict[str, Any] = {"cores": len(description.devices), "kind": device.device_kind}
    computation = xla_client.XlaComputation(program)
    text = xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        _write_in_place(ir, module, num_in_place)
        start = time.monotonic()
        try:
            executable = device.client.compile(
                module, xla_client.DeviceList((device,)), xla_client.CompileOptions()
            )
        except xla_client.XlaRuntimeError as error:
            found = next(filter(None, (p.search(str(error)) for p in _TOO_LARGE)), None)
            if found is None:
                raise
            needed, usable = (int(float(found[i]) * UNITS[found[i + 1]]) for i in (1, 3))
            return result | {"needed": needed, "usable": usable}, ""
        seconds = time.monotonic() - start
    memory = executable.get_compiled_memory_stats()
    result |= {
        "compile_seconds": seconds,
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "in_place": memory.alias_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
    }
    try:
        return result, executable.hlo_modules()[0].to_string()
    except xla_client.XlaRuntimeError:  # for v5p libtpu writes what this jaxlib cannot read
        return result, ""


def _write_in_place(ir: Any, module: Any, count: int) -> None:
    """Lets result i take argument i's memory, as TensorFlow's variables do."""
    main = next(op for op in module.body.operations if op.name.value == "main")
    old = list(main.arg_attrs) if "arg_attrs" in main.attributes else [{}] * len(main.arguments)
    results = main.type.results
    attributes = []
    for index, (argument, before) in enumerate(zip(main.arguments, old, strict=True)):
        items = {named.name: named.attr for named in before} if before else {}
        if index < count:
            if argument.type != results[index]:
                raise ValueError(f"result {index} is not of argument {index}'s shape")
            number = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), index)
            items["tf.aliasing_output"] = number
        attributes.append(ir.DictAttr.get(items))
    main.arg_attrs = ir.ArrayAttr.get(attributes)


def main(arguments: list[str]) -> int:
    """Entry point of the process."""
    os.environ.update(ENVIRONMENT)
    program, topology, num_in_place, result_file, text_file = arguments
    result, text = compile_program(Path(program).read_bytes(), topology, int(num_in_place))
    Path(result_file).write_text(json.dumps(result))
    Path(text_file).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
