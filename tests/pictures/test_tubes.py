"""Backbone meshes: closed, as thick as asked, coloured by error, broken where truth is unknown."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tffold.pictures.tubes import superposed, tube


@pytest.fixture
def trace():
    t = np.linspace(0, 4 * np.pi, 30)
    return np.stack([8 * np.cos(t), 8 * np.sin(t), 3 * t], axis=-1)


def test_a_tube_is_closed_and_turned_outwards(trace):
    vertices, faces, colours = tube(trace, np.zeros((30, 3)), radius=0.5)
    assert len(colours) == len(vertices) and faces.max() == len(vertices) - 1
    edges = [tuple(face[[i, (i + 1) % 3]]) for face in faces for i in range(3)]
    # Every edge is walked once in either direction.
    assert set(Counter(edges).values()) == {1}
    assert set(edges) == {(b, a) for a, b in edges}
    corners = vertices[faces]
    volume = np.einsum("fx,fx->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    length = np.linalg.norm(np.diff(trace, axis=0), axis=-1).sum()
    assert volume == pytest.approx(np.pi * 0.5**2 * length, rel=0.15)


def test_it_follows_the_points_at_its_radius(trace):
    vertices = tube(trace, np.zeros((30, 3)), radius=0.5).vertices[:-2]
    nearest = np.linalg.norm(vertices[None] - trace[:, None], axis=-1).min(axis=1)
    np.testing.assert_allclose(nearest, 0.5, atol=1e-6)


def test_colours_say_how_far_off_each_residue_is(trace):
    predicted = trace.copy()
    predicted[20:] += [0, 0, 30.0]
    known = np.ones(30)
    known[5] = 0
    vertices, faces, colours = superposed(predicted, trace, known)
    rings = colours[: 29 * 4 * 8].reshape(29 * 4, 8, 3)  # the predicted tube comes first
    right, wrong, unknown = rings[0, 0], rings[25 * 4, 0], rings[5 * 4, 0]
    assert right[0] < 60 and wrong[0] > 100 and wrong[2] < 60
    assert unknown.tolist() == [255, 255, 255]
    grey = (colours == 150).all(axis=-1)
    whole = superposed(predicted, trace, np.ones(30))
    # Broken at the unknown residue: fewer rings, and two more ends.
    assert 0 < grey.sum() < (whole.colours == 150).all(axis=-1).sum()
    assert np.abs(vertices.max(0) + vertices.min(0)).max() < 1e-4


def test_lone_known_residues_make_no_tube(trace):
    known = np.zeros(30)
    known[3] = 1
    colours = superposed(trace, trace, known).colours
    assert not (colours == 150).all(axis=-1).any()


def test_chains_are_apart_and_have_colours_of_their_own(trace):
    chain = np.repeat([1, 2], 15)
    vertices, faces, colours = superposed(trace, trace, np.ones(30), chain)
    found = {tuple(row) for row in colours.round().astype(int)}
    assert len(found) == 4  # two chains, and the pale shades of their truth
    alone = [
        tube(trace[part], np.zeros((15, 3)), radius=0.5) for part in (slice(15), slice(15, 30))
    ]
    assert len(vertices) == 2 * sum(len(one.vertices) for one in alone)
    # No face joins the chains.
    owner = np.array([row.round().astype(int).tolist() for row in colours])[faces]
    assert (owner == owner[:, :1]).all()
