"""Pictures: every function draws what it was given, of the expected size, without global state."""

import subprocess
import sys

import numpy as np
import pytest

from tffold.pictures import plots

LENGTH = 12


def sample() -> dict[str, object]:
    rng = np.random.default_rng(0)
    ca = np.cumsum(rng.standard_normal((LENGTH, 3)), axis=0) * 3
    near = ca + rng.standard_normal(ca.shape)
    distance = np.linalg.norm(ca[:, None] - ca[None], axis=-1)
    other = np.linalg.norm(near[:, None] - near[None], axis=-1)
    mask = (np.arange(LENGTH) % 4 != 1).astype("float32")
    msa = rng.integers(0, 22, (6, LENGTH))
    masked = np.where(rng.random(msa.shape) < 0.3, plots.MASK, msa)
    unknown = np.where(mask[:, None] > 0, ca, np.nan)
    return {
        "msa_coverage": plots.msa_coverage(msa),
        "masked_msa": plots.masked_msa(msa, masked, rng.integers(0, 22, msa.shape)),
        "plddt": plots.plddt_along_chain(rng.random(LENGTH) * 100, rng.random(LENGTH) * 100, mask),
        "pae": plots.predicted_aligned_error(other, boundaries=[5]),
        "distances": plots.distance_maps(distance, other, mask),
        "distogram": plots.distogram_expectation(other, distance),
        "contacts": plots.contact_map(np.exp(-other / 8), distance < 8),
        "backbone": plots.backbone_3d(near, unknown),
        "backbone_alone": plots.backbone_3d(near),
    }


@pytest.fixture(scope="module")
def figures():
    return sample()


def test_every_figure_is_drawn_at_its_size_and_not_blank(figures):
    for name, figure in figures.items():
        picture = plots.to_array(figure)
        width, height = (figure.get_size_inches() * figure.dpi).astype(int)
        assert picture.shape == (height, width, 3), name
        assert picture.dtype == np.uint8
        # More than black text on white: data in colour or in several greys.
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 40, name
        assert plots.to_png(figure).startswith(b"\x89PNG"), name


def test_maps_have_a_colour_bar_with_its_unit(figures):
    for name in ("pae", "distances", "distogram"):
        labels = [axes.get_ylabel() for axes in figures[name].axes]
        assert any("Å" in label for label in labels), name


def test_unknown_residues_are_left_blank():
    true = np.full((4, 4), 10.0)
    figure = plots.distance_maps(true, true, np.array([1, 0, 1, 1]))
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(
        np.ma.getmaskarray(drawn), ~np.outer([1, 0, 1, 1], [1, 0, 1, 1]).astype(bool)
    )
    line = plots.plddt_along_chain(np.full(4, 50.0), np.full(4, 80.0), np.array([1, 0, 1, 1]))
    (known,) = [x for x in line.axes[0].lines if "lDDT-Cα" in x.get_label()]
    assert np.isnan(known.get_ydata()).tolist() == [False, True, False, False]
    assert "80.0" in known.get_label()


def test_the_share_of_right_guesses_counts_chosen_cells_alone():
    true = np.array([[0, 1, 2, 3]])
    masked = np.array([[22, 22, 2, 3]])
    figure = plots.masked_msa(true, masked, np.array([[0, 9, 9, 9]]))
    assert "50% of 2" in figure.axes[2].get_title()


def test_the_other_triangle_is_the_truth():
    figure = plots.contact_map(np.full((3, 3), 0.25), np.ones((3, 3)))
    shown = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_array_equal(shown, [[0.25] * 3, [1, 0.25, 0.25], [1, 1, 0.25]])


def test_coverage_is_sorted_by_identity_to_the_query():
    msa = np.array([[0, 1, 2, 3], [21, 21, 9, 9], [0, 1, 21, 9]])
    figure = plots.msa_coverage(msa)
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    expected = [[1, 1, 1, 1], [2 / 3, 2 / 3, np.nan, 2 / 3], [np.nan, np.nan, 0, 0]]
    np.testing.assert_allclose(shown, expected)


def test_a_picture_is_saved(figures, tmp_path):
    plots.save_png(figures["pae"], tmp_path / "pae.png")
    assert (tmp_path / "pae.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_global_is_touched():
    """In a process of its own: other packages import pyplot."""
    code = (
        "import sys, numpy as np\n"
        "from tffold.pictures import plots\n"
        "plots.to_png(plots.backbone_3d(np.eye(3)))\n"
        "plots.to_png(plots.predicted_aligned_error(np.eye(3)))\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_chains_have_borders_in_maps_and_colours_in_space():
    square = np.ones((6, 6))
    drawn = [
        plots.predicted_aligned_error(square, boundaries=[2, 4]),
        plots.distance_maps(square, square, boundaries=[2, 4]),
        plots.distogram_expectation(square, boundaries=[2, 4]),
        plots.contact_map(square, boundaries=[2, 4]),
        plots.plddt_along_chain(np.ones(6), boundaries=[2, 4]),
        plots.msa_coverage(np.zeros((2, 6), int), boundaries=[2, 4]),
    ]
    for figure in drawn:
        lines = [tuple(line.get_xdata()) for line in figure.axes[0].lines]
        assert {(1.5, 1.5), (3.5, 3.5)} <= set(lines)
    trace = np.arange(18.0).reshape(6, 3)
    chain = np.repeat([1, 2], 3)
    figure = plots.backbone_3d(trace, trace + 1.0, chain=chain)
    plots.to_array(figure)
    (collection,) = figure.axes[0].collections
    assert len(collection.get_segments()) == 4  # nothing is drawn from chain to chain
    colours = {tuple(colour[:3]) for colour in collection.get_edgecolors()}
    assert colours == {tuple(row) for row in plots.chain_colours(chain)} and len(colours) == 2
    assert len(figure.axes[0].lines) == 2
