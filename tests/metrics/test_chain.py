"""Every metric of one chain, RMSD against Biopython."""

import numpy as np
import pytest
from Bio.SVDSuperimposer import SVDSuperimposer
from reference import load_batch, load_expected, nest

from tffold import metrics
from tffold.config import HeadsConfig

HEADS = HeadsConfig()


@pytest.fixture(scope="module")
def example():
    batch = {name: value[-1] for name, value in load_batch("case_a").items()}
    outputs = nest(load_expected("case_a"))
    return outputs, batch


def test_everything_of_a_chain(example):
    outputs, batch = example
    found = metrics.chain_metrics(outputs, batch, HEADS)
    assert {
        "lddt_ca", "drmsd_ca", "rmsd_ca", "tm_score", "gdt_ts", "gdt_ha", "plddt",
        "plddt_error", "plddt_correlation", "predicted_tm",
    } <= set(found)  # fmt: skip
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())
    predicted = outputs["structure_module"]["final_atom_positions"][:, 1]
    superimposer = SVDSuperimposer()
    superimposer.set(batch["all_atom_positions"][:, 1], predicted)
    superimposer.run()
    assert found["rmsd_ca"] == pytest.approx(superimposer.get_rms(), rel=1e-4)
    truth = {"structure_module": {"final_atom_positions": batch["all_atom_positions"]}}
    perfect = metrics.chain_metrics(truth, batch, HEADS)
    assert set(perfect) == {"lddt_ca", "drmsd_ca", "rmsd_ca", "tm_score", "gdt_ts", "gdt_ha"}
    assert perfect.pop("drmsd_ca") < 1e-4 and perfect.pop("rmsd_ca") < 1e-3
    assert all(value == pytest.approx(1.0, abs=1e-5) for value in perfect.values())
