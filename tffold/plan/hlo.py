"""Counts what an XLA program does: its text read, every loop counted as often as it runs.

XLA's own cost analysis counts a loop's body once, whatever its trip count; a looped network
would seem as cheap as one of its blocks.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "pred": 1, "s8": 1}
BYTES |= {"u8": 1, "f64": 8, "s64": 8, "u64": 8, "s4": 1, "u4": 1}
# Neither move data of their own nor compute.
FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast while call conditional after-all "
    "opt-barrier partition-id replica-id iota".split()
)
_STARTS = frozenset(("copy-start", "slice-start"))  # of transfers beside the computation
_RENAMING = ("AllocateBuffer", "ConcatBitcast")  # libtpu's own; they touch no data
_SLICING = frozenset(("dynamic-slice", "slice", "gather"))
_HEAD = re.compile(r"^(ENTRY )?%?([^\s(]+)(?: \(.*\) -> .*)? \{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?(\S+) = (.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\](?:\{[\d,]*(:[^}]*)?\})?")
_ON_CHIP = "S(1)"  # of a TPU layout: in the core's own memory, not in the chip's
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass
class Instruction:
    """One line: its name, opcode, result shape, operands, and everything after them."""

    name: str
    opcode: str
    shape: str
    operands: list[str]
    attributes: str
    root: bool

    def attribute(self, name: str) -> str | None:
        """The computation or the list of numbers behind ``name=``."""
        found = re.search(rf"\b{name}=(?:\{{([\d,]*)\}}|%?([^\s,}})]+))", self.attributes)
        return None if found is None else found.group(1) if found.group(2) is None else found[2]

    @property
    def source(self) -> str:
        """The operation of the program before optimisation that it was made from."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""


@dataclass(frozen=True)
class Mover:
    """What one instruction moves: bytes in all its ``times`` runs, and what it is."""

    bytes: float
    times: float
    opcode: str
    shape: str
    source: str


@dataclass
class Cost:
    """Matrix products' floating-point operations, bytes read and written, operations by kind."""

    flops: float = 0.0
    bytes: float = 0.0
    opcodes: Counter = field(default_factory=Counter)

    def add(self, other: Cost, times: float) -> None:
        self.flops += times * other.flops
        self.bytes += times * other.bytes
        for name, count in other.opcodes.items():
            self.opcodes[name] += times * count


class Program:
    """An HLO module's text, before or after optimisation.

    Args:
      text: as XLA prints it.
      open_trips: how often a loop runs whose count is not known before it runs (the number of
        recycling passes, drawn with the data).
    """

    def __init__(self, text: str, open_trips: float = 1.0) -> None:
        self.open_trips = open_trips
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        self._costs: dict[tuple[str, bool], Cost] = {}
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            head = _HEAD.match(line)
            if head and not line.startswith(" "):
                current = self.computations.setdefault(head[2], {})
                if head[1]:
                    self.entry = head[2]
                continue
            found = _INSTRUCTION.match(line)
            if found:
                instruction = _parse(found[2], found[3], bool(found[1]))
                current[instruction.name] = instruction

    def __len__(self) -> int:
        """Number of instructions."""
        return sum(len(c) for c in self.computations.values())

    def cost(self) -> Cost:
        """Of the whole program."""
        return self._cost(self.entry, inside_fusion=False)

    def _cost(self, name: str, inside_fusion: bool) -> Cost:
        key = (name, inside_fusion)
        if key not in self._costs:
            total = Cost()
            computation = self.computations.get(name, {})
            for instruction in computation.values():
                self._count(total, computation, instruction, inside_fusion)
            self._costs[key] = total
        return self._costs[key]

    def _count(
        self,
        total: Cost,
        computation: dict[str, Instruction],
        instruction: Instruction,
        inside_fusion: bool,
    ) -> None:
        opcode = instruction.opcode
        total.opcodes[opcode] += 1
        if opcode == "dot":
            total.flops += dot_flops(computation, instruction)
        elif opcode == "convolution":  # what libtpu makes of products
            total.flops += convolution_flops(computation, instruction)
        if not inside_fusion and _moves(instruction):
            total.bytes += self._moved(computation, instruction)
        for name, times in self._called(instruction):
            total.add(self._cost(name, inside_fusion or opcode == "fusion"), times)

    def _called(self, instruction: Instruction) -> list[tuple[str, float]]:
        """The computations that an instruction runs, and how often; of branches the dearest."""
        opcode = instruction.opcode
        if opcode == "while":
            return [(instruction.attribute("body"), self.trips(instruction))]
        if opcode == "fusion":
            return [(instruction.attribute("calls"), 1)]
        if opcode == "call":
            return [(instruction.attribute("to_apply") or instruction.attribute("calls"), 1)]
        if opcode == "conditional":
            branches = re.findall(
                r"(?:true_computation|false_computation)=%?([^\s,}]+)", instruction.attributes
            )
            listed = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
            if listed:
                branches = [b.strip().lstrip("%") for b in listed[1].split(",")]
            costs = {b: self._cost(b, inside_fusion=False) for b in branches}
            return [(max(costs, key=lambda b: (costs[b].flops, costs[b].bytes)), 1)]
        return []

    def movers(self) -> list[Mover]:
        """All that moves data, most bytes first, as often as it runs."""
        found = list(self._movers(self.entry, 1.0))
        return sorted(found, key=lambda mover: -mover.bytes)

    def _movers(self, name: str, times: float) -> Iterator[Mover]:
        computation = self.computations.get(name, {})
        for instruction in computation.values():
            if _moves(instruction):
                moved = times * self._moved(computation, instruction)
                yield Mover(moved, times, instruction.opcode, instruction.shape, instruction.source)
            if instruction.opcode != "fusion":
                for called, count in self._called(instruction):
                    yield from self._movers(called, times * count)

    def _moved(self, computation: dict[str, Instruction], instruction: Instruction) -> float:
        """Bytes that one instruction reads and writes; of an array that is sliced, the slice."""
        operands = [computation.get(name) for name in instruction.operands]
        sizes = [0 if o is None else array_bytes(o.shape) for o in operands]
        result = array_bytes(instruction.shape)
        if instruction.opcode in _SLICING:
            return 2 * result
        if instruction.opcode == "dynamic-update-slice":
            return 2 * sizes[1]
        if instruction.opcode in _STARTS:  # its result names source and target
            slices = instruction.opcode == "slice-start"
            return _slice_bytes(instruction.shape) if slices else result
        if instruction.opcode == "fusion":
            fused = instruction.attribute("calls")
            for index, size in enumerate(sizes):
                sizes[index] = min(size, self._read_of_parameter(fused, index, size))
            result = min(result, self._written(fused, result))
        return sum(sizes) + result

    def _read_of_parameter(self, fused: str, index: int, size: float) -> float:
        """Bytes that a fusion reads of one operand: slices, where it takes nothing else."""
        computation = self.computations.get(fused, {})
        for parameter in computation.values():
            if parameter.opcode == "parameter" and parameter.attributes == str(index):
                break
        else:
            return size
        read = 0.0
        for user, place in _users(computation, parameter.name):
            if user.opcode in _SLICING:
                read += array_bytes(user.shape)
            elif user.opcode == "fusion":  # libtpu nests them
                read += self._read_of_parameter(user.attribute("calls"), place, size)
            elif user.opcode == "dynamic-update-slice" and place == 0:
                read += 0.0  # written in place
            else:
                return size
        return min(read, size)

    def _written(self, fused: str, size: float) -> float:
        """Bytes that a fusion writes: the slices, where it updates arrays in place."""
        computation = self.computations.get(fused, {})
        root = next((i for i in computation.values() if i.root), None)
        if root is None:
            return size
        results = [root]
        if root.opcode in ("tuple", "bitcast", "reshape"):
            results = [_source(computation, root, i) for i in range(len(root.operands))]
        written = 0.0
        for result in results:
            if result.opcode == "dynamic-update-slice":
                written += array_bytes(computation[result.operands[1]].shape)
            elif result.opcode == "fusion":
                whole = array_bytes(result.shape)
                written += min(whole, self._written(result.attribute("calls"), whole))
            else:
                written += array_bytes(result.shape)
        return written

    def trips(self, loop: Instruction) -> float:
        """How often a loop runs: as the optimiser noted, or the constant its counter is held to."""
        known = _TRIPS.search(loop.attributes)
        if known:
            return float(known[1])
        bound = self._bound(loop.attribute("condition"))
        return self.open_trips if bound is None else bound

    def _bound(self, condition: str) -> float | None:
        """The smallest constant that a loop's condition (or one it calls) compares with."""
        computation = self.computations.get(condition, {})
        bounds: list[float] = []
        for instruction in computation.values():
            if instruction.opcode == "call":
                inner = self._bound(instruction.attribute("to_apply"))
                if inner is not None:
                    bounds.append(inner)
            elif instruction.opcode == "compare":
                for operand in instruction.operands:
                    source = computation.get(operand)
                    while source is not None and source.opcode in ("convert", "reshape", "copy"):
                        source = computation.get(source.operands[0])
                    if source is not None and source.opcode == "constant":
                        number = re.match(r"\(?(-?\d+)", source.attributes)
                        if number and int(number[1]) > 0:
                            bounds.append(float(number[1]))
        return min(bounds) if bounds else None


def _moves(instruction: Instruction) -> bool:
    opcode = instruction.opcode
    free = opcode == "custom-call" and any(name in instruction.attributes for name in _RENAMING)
    return not free and opcode not in FREE and not opcode.endswith("-done")


def _slice_bytes(shape: str) -> float:
    """What ``slice-start`` moves: its result is ((source), target, ...)."""
    source, target = list(_ARRAY.finditer(shape))[:2]
    size = array_bytes(target[0].replace(_ON_CHIP, ""))
    return size * sum(_ON_CHIP not in (end[3] or "") for end in (source, target))


def _parse(name: str, rest: str, root: bool) -> Instruction:
    """``f32[2,3]{1,0} add(%a, %b), metadata={...}``, the shape possibly a tuple."""
    if rest.startswith("("):
        end = _closing(rest, 0) + 1
    else:
        end = rest.index(" ")
    shape, call = rest[:end], rest[end:].lstrip()
    opening = call.index("(")
    closing = _closing(call, opening)
    arguments = call[opening + 1 : closing]
    opcode = call[:opening]
    if opcode in ("constant", "parameter"):
        return Instruction(name, opcode, shape, [], arguments, root)
    # XLA writes `%a, %b`, `a, b` or, with shapes that hold commas too, `f32[2,3]{1,0} %a, ...`.
    pattern = r"%([\w.\-]+)" if "%" in arguments else r"([\w.\-]+)(?=,|$)"
    operands = re.findall(pattern, arguments)
    return Instruction(name, opcode, shape, operands, call[closing + 1 :], root)


def _closing(text: str, opening: int) -> int:
    """The place of the bracket that closes the one at ``opening``."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return len(text)


def array_bytes(shape: str) -> int:
    """Bytes of an array or of all arrays of a tuple, but for those in a core's own memory."""
    return sum(
        BYTES.get(kind, 4) * math.prod(int(n) for n in sizes.split(",") if n)
        for kind, sizes, layout in _ARRAY.findall(shape)
        if _ON_CHIP not in layout
    )


def dot_flops(computation: dict[str, Instruction], dot: Instruction) -> float:
    """Two for each product of the result's elements and the summed axes."""
    result = _ARRAY.search(dot.shape)
    elements = math.prod(int(n) for n in result[2].split(",") if n)
    left = _ARRAY.search(computation[dot.operands[0]].shape)
    sizes = [int(n) for n in left[2].split(",") if n]
    axes = dot.attribute("lhs_contracting_dims") or ""
    summed = math.prod(sizes[int(a)] for a in axes.split(",") if a)
    return 2.0 * elements * summed


def convolution_flops(computation: dict[str, Instruction], instruction: Instruction) -> float:
    """Two for each product; those with padding and between dilated elements are none."""
    left, right, result = (
        [int(n) for n in _ARRAY.search(shape)[2].split(",") if n]
        for shape in (*(computation[o].shape for o in instruction.operands[:2]), instruction.shape)
    )
    labels = re.search(r"dim_labels=(\w*)_(\w*)->(\w*)", instruction.attributes)
    in_left, in_right, in_result = labels.groups()
    products = math.prod(n for n, label in zip(result, in_result, strict=True) if label in "bf")
    products *= right[in_right.index("i")]
    window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    settings = dict(part.split("=") for part in window[1].split()) if window else {}
    for dim in sorted(set(in_result) - set("bf")):
        kernel = np.arange(right[in_right.index(dim)])

        def of(name: str, default: str, dim: str = dim) -> list[int]:
            numbers = settings[name].split("x")[int(dim)] if name in settings else default
            return [int(n) for n in numbers.split("_")]

        (stride,), (dilation,), (spread,) = (
            of(name, "1") for name in ("stride", "lhs_dilate", "rhs_dilate")
        )
        outputs = np.arange(result[in_result.index(dim)])
        # Where an output's products lie in the padded, dilated left side.
        place = outputs[:, None] * stride + kernel * spread - of("pad", "0_0")[0]
        inside = (place >= 0) & (place <= (left[in_left.index(dim)] - 1) * dilation)
        products *= int(np.sum(inside & (place % dilation == 0)))
    return 2.0 * products


def _users(computation: dict[str, Instruction], name: str) -> list[tuple[Instruction, int]]:
    """Who reads a value and as which operand, seen through instructions that only rename it."""
    users = []
    for instruction in computation.values():
        for place, operand in enumerate(instruction.operands):
            if operand == name:
                if instruction.opcode in ("bitcast", "reshape"):
                    users += _users(computation, instruction.name)
                else:
                    users.append((instruction, place))
    return users


def _source(computation: dict[str, Instruction], user: Instruction, index: int) -> Instruction:
    """An operand, seen through instructions that only rename it."""
    source = computation[user.operands[index]]
    while source.opcode in ("bitcast", "reshape"):
        source = computation[source.operands[0]]
    return source
