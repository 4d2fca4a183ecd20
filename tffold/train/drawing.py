"""What pictures and structure files need of one evaluated chain."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from records import chemistry
from tffold import geometry, metrics
from tffold.config import Config

CA = chemistry.ATOM_ORDER["CA"]
Arrays = dict[str, np.ndarray]


def masked_cells(outputs: Any, batch: Any) -> Arrays:
    """The alignment [s, i], as it was shown, what was read into it, and which cells counted."""
    rows = batch["msa_row_mask"].numpy() > 0
    num_res = int(batch["seq_length"])
    cells = {
        "msa": batch["true_msa"],
        # The first 23 channels of `msa_feat` are the residue type (supplement, table 1).
        "msa_shown": tf.argmax(batch["msa_feat"][..., :23], -1),
        "msa_guess": tf.argmax(outputs["masked_msa"]["logits"], -1),
        "msa_chosen": batch["bert_mask"],
    }
    return {name: value.numpy()[rows, :num_res] for name, value in cells.items()}


def drawing(outputs: Any, batch: Arrays, config: Config) -> Arrays:
    """Truth, prediction and confidence of one chain or complex, without padding.

    The predicted atoms are superposed on the true ones by their Cα.
    """
    batch = {name: np.asarray(value) for name, value in batch.items()}
    num_res = int(batch["seq_length"])
    chain = slice(0, num_res)
    predicted = outputs["structure_module"]["final_atom_positions"][chain]
    true, mask = batch["all_atom_positions"][chain], batch["all_atom_mask"][chain]
    known = mask[:, CA].astype("float32")
    motion = geometry.superpose(predicted[:, CA], true[:, CA], known)
    moved = geometry.rigid.apply(geometry.rigid.expand(motion), predicted.reshape(-1, 3))
    heads = config.model.heads
    lddt = geometry.lddt_per_residue(predicted[:, CA], true[:, CA], known)
    logits = outputs["distogram"]["logits"][chain, chain]
    arrays = {
        "aatype": batch["aatype"][chain],
        "residue_index": batch["residue_index"][chain],
        "positions": keras.ops.convert_to_numpy(moved).reshape(predicted.shape),
        "atom_exists": batch["atom37_atom_exists"][chain],
        "true_positions": true,
        "true_mask": mask,
        "plddt": metrics.predicted_lddt(outputs["predicted_lddt"]["logits"][chain]),
        "lddt": 100.0 * keras.ops.convert_to_numpy(lddt),
        "distogram": metrics.expected_distance(logits, heads),
        "contacts": metrics.contact_probability(logits, heads),
        "pseudo_beta": batch["pseudo_beta"][chain],
        "pseudo_beta_mask": batch["pseudo_beta_mask"][chain],
        "chain": batch["asym_id"][chain] if "asym_id" in batch else np.ones(num_res, np.int32),
    }
    if "predicted_aligned_error" in outputs:
        logits = outputs["predicted_aligned_error"]["logits"][chain, chain]
        arrays["pae"] = metrics.predicted_aligned_error(logits, heads)
    return {name: keras.ops.convert_to_numpy(value) for name, value in arrays.items()}
