"""One minimisation in the Amber99SB force field, with OpenMM and pdbfixer (supplement 1.8.6)."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from records.errors import InputError
from tffold.config import RelaxConfig

FORCE_FIELD = "amber99sb.xml"
PH = 7.0  # at which hydrogens are put in
_JOLT = 0.01  # nm, when atoms lie on each other and the energy is infinite


@dataclass
class Round:
    """What a minimisation did: a PDB file with hydrogens, energies in kcal/mol."""

    text: str
    energy_before: float
    energy_after: float
    disulfides: int
    platform: str


def _prepared(text: str) -> Any:
    """The file with missing heavy atoms, hydrogens and disulfide bonds put in (pdbfixer's)."""
    import pdbfixer

    fixer = pdbfixer.PDBFixer(pdbfile=io.StringIO(text))
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    fixer.addMissingAtoms(seed=0)
    fixer.addMissingHydrogens(PH)
    return fixer


def minimise(text: str, free: np.ndarray, config: RelaxConfig) -> Round:
    """One round: all heavy atoms but those of residues that are ``free`` [L] are restrained.

    Raises:
      InputError: the force field does not know the structure, or it has no finite energy.
    """
    import openmm
    from openmm import app, unit

    fixer = _prepared(text)
    topology = fixer.topology
    try:
        system = app.ForceField(FORCE_FIELD).createSystem(topology, constraints=app.HBonds)
    except ValueError as error:
        raise InputError("the force field does not fit", item=str(error)[:200]) from None
    positions = np.asarray(fixer.positions.value_in_unit(unit.nanometer), float)
    restraint = openmm.CustomExternalForce("0.5 * k * ((x-x0)^2 + (y-y0)^2 + (z-z0)^2)")
    kilocalorie = unit.kilocalories_per_mole
    stiffness = config.stiffness * kilocalorie / unit.angstrom**2
    restraint.addGlobalParameter("k", stiffness)
    for name in ("x0", "y0", "z0"):
        restraint.addPerParticleParameter(name)
    restraint.setForceGroup(1)
    for atom in topology.atoms():
        if atom.element.symbol != "H" and not free[atom.residue.index]:
            restraint.addParticle(atom.index, positions[atom.index])
    system.addForce(restraint)
    context = _context(system, config.platform)

    def energy() -> float:
        state = context.getState(getEnergy=True, groups={0})
        return state.getPotentialEnergy().value_in_unit(kilocalorie)

    random = np.random.default_rng(0)
    context.setPositions(positions)
    before = energy()
    if not np.isfinite(before):
        context.setPositions(positions + _JOLT * random.standard_normal(positions.shape))
    # DISCREPANCY: AlphaFold gave its tolerance as an energy, as OpenMM 7 took it; OpenMM 8
    # takes a force, for which 10 kJ/mol/nm = 2.39 kcal/mol/nm is the same default.
    tolerance = config.tolerance * kilocalorie / unit.nanometer
    stopwatch = _stopwatch(config.max_seconds)
    openmm.LocalEnergyMinimizer.minimize(context, tolerance, config.max_iterations, stopwatch)
    after = energy()
    state = context.getState(getPositions=True)
    if not np.isfinite(after):
        raise InputError("has no finite energy", mend="too many of its atoms lie on each other")
    out = io.StringIO()
    app.PDBFile.writeFile(topology, state.getPositions(), out)
    sulphur = [b for b in topology.bonds() if b[0].name == b[1].name == "SG"]
    name = context.getPlatform().getName()
    return Round(out.getvalue(), before, after, len(sulphur), name)


def _stopwatch(seconds: int) -> Any:
    """What ends a minimisation that takes longer (hopeless structures take hours), or None."""
    if not seconds:
        return None
    import openmm

    class Stopwatch(openmm.MinimizationReporter):
        def __init__(self) -> None:
            super().__init__()
            self.end = time.monotonic() + seconds

        def report(self, iteration: int, x: Any, grad: Any, args: Any) -> bool:
            return time.monotonic() > self.end

    return Stopwatch()


def _context(system: Any, platform: str) -> Any:
    """On the platform named; on ``auto`` the fastest that works (a GPU may be full or absent)."""
    import openmm

    known = {p.getName(): p for p in map(openmm.Platform.getPlatform, range(
        openmm.Platform.getNumPlatforms()))}  # fmt: skip
    if platform != "auto" and platform not in known:
        raise InputError(
            f"OpenMM has no platform {platform!r} here",
            mend=f"set predict.relax.platform to one of {', '.join(known)}, or to auto",
        )
    chosen = sorted(known.values(), key=lambda p: -p.getSpeed())
    if platform != "auto":
        chosen = [known[platform]]
    problem = ""
    for one in chosen:
        try:
            return openmm.Context(system, openmm.VerletIntegrator(0.001), one)
        except openmm.OpenMMException as error:
            problem = str(error)
    raise InputError("OpenMM cannot run", item=problem[:200], mend="set predict.relax.platform")
