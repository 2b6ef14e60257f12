"""The closed-form solutions of the ReLU denoising autoencoder (seed 003), and the check that a data set allows them.

On separable data (cosines positive inside a cluster, negative across) each neuron always fires on one cluster and never
on the others. The loss then splits into one linear problem per cluster, solved by W₁ = W₂ = W. Clusters of one photo
each give the memorizing solution, larger ones the generalizing solution. Both neglect the neurons that fire in the
wrong cluster because of noise; `Separability.firing` has their probabilities.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import special

from side_jax.theory.relu_dae import DAE, check_problem


class Block(NamedTuple):
    """The optimum of one cluster: W Wᵀ = Σ_j m_j u_j u_jᵀ.

    Attributes:
      share: ρ_k = n_k / n.
      second_moments: s, eigenvalues of S_k = (1/n_k) Σ x xᵀ, descending, [r], r = min(n_k, D).
      directions: u, [D, r].
      strengths: m, [r].
    """

    share: float
    second_moments: np.ndarray
    directions: np.ndarray
    strengths: np.ndarray


class Separability(NamedTuple):
    """Cosines between the vectors x [n, D]; entry [j, i] is about a neuron along x_j and the input x_i + σε.

    Attributes:
      cosines: [n, n].
      firing: probability that the neuron fires, Φ(cos ‖x_i‖ / σ), [n, n]. Across clusters it is the leak.
      separable: every cosine inside a cluster is positive and every cosine across is negative.
      worst_inside: (j, i, cosine) of the lowest cosine inside a cluster, j = i if all clusters are of one.
      worst_across: (j, i, cosine) of the highest cosine across clusters.
      worst_leak: (j, i, probability) of the wrong neuron that is most likely to fire.
    """

    cosines: np.ndarray
    firing: np.ndarray
    separable: bool
    worst_inside: tuple[int, int, float]
    worst_across: tuple[int, int, float]
    worst_leak: tuple[int, int, float]


def separability(x: Float[np.ndarray, "n d"], labels: np.ndarray, sigma: float) -> Separability:
    """Cosines, leaks and the verdict for clusters given by labels.

    Args:
      x: [n, D].
      labels: int [n], 0 … K−1, at least two of them.
      sigma: σ.

    Raises:
      ValueError: for bad x or σ, an empty cluster, or labels with one class.
    """
    check_problem(x, sigma, 0.0)
    if check_clusters(labels, len(x)) < 2:
        raise ValueError("labels hold one class only; separability needs two clusters or more")
    norms = np.linalg.norm(x.astype(np.float64), axis=1)
    unit = x / norms[:, None]
    cosines = unit @ unit.T
    firing = special.ndtr(cosines * norms / sigma)
    same = labels[:, None] == labels[None]
    inside = _extreme(np.where(same, -cosines, -np.inf), cosines)
    across = _extreme(np.where(same, -np.inf, cosines), cosines)
    leak = _extreme(np.where(same, -np.inf, firing), firing)
    return Separability(cosines, firing, inside[2] > 0 > across[2], inside, across, leak)


def strengths(
    second_moments: Float[np.ndarray, " r"], share: float, sigma: float, lam: float
) -> Float[np.ndarray, " r"]:
    """m_j = (s_j − λ/ρ)₊ / (s_j + σ²) of a cluster that holds the share ρ of the photos."""
    return np.maximum(second_moments - lam / share, 0) / (second_moments + sigma**2)


def blocks(x: Float[np.ndarray, "n d"], labels: np.ndarray, sigma: float, lam: float) -> list[Block]:
    """The optimum of each cluster, in order of label; separability is not checked.

    Raises:
      ValueError: for bad x, σ or λ, or an empty cluster.
    """
    check_problem(x, sigma, lam)
    solution = []
    for label in range(check_clusters(labels, len(x))):
        members = x[labels == label].astype(np.float64)
        _, singular, rows = np.linalg.svd(members / len(members) ** 0.5, full_matrices=False)
        share = len(members) / len(x)
        solution.append(Block(share, singular**2, rows.T, strengths(singular**2, share, sigma, lam)))
    return solution


def separated_loss(solution: list[Block], sigma: float, lam: float) -> float:
    """The loss if all neurons of the photo's own cluster fire, and no others.

    Σ_k ρ_k Σ_j [s_j (1 − m_j)² + σ² m_j²] + 2λ Σ m_j.
    """
    total = 0.0
    for share, moments, _, m in solution:
        total += share * float((moments * (1 - m) ** 2 + sigma**2 * m**2).sum()) + 2 * lam * float(m.sum())
    return total


def memorizing(x: Float[np.ndarray, "n d"], sigma: float, lam: float, num_hidden: int) -> DAE:
    """The solution that stores every photo: columns r_i x_i, with ‖·‖² summing to m_i over the neurons of photo i.

    m_i = (‖x_i‖² − nλ) / (‖x_i‖² + σ²). Neuron k belongs to photo k mod n; the neurons of one photo are equal.

    Args:
      x: [n, D].
      sigma: σ.
      lam: λ.
      num_hidden: p, at least n.

    Raises:
      ValueError: for bad x, σ or λ, fewer neurons than photos, or a photo with ‖x_i‖² ≤ nλ, whose optimum is m_i = 0.
    """
    check_problem(x, sigma, lam)
    n = len(x)
    if num_hidden < n:
        raise ValueError(f"num_hidden must be at least the number of photos, {n}, got {num_hidden}")
    squares = np.square(x.astype(np.float64)).sum(1)
    weak = squares <= n * lam
    if weak.any():
        i = int(weak.argmax())
        raise ValueError(
            f"x[{i}] is too weak to be stored: it needs ‖x‖² > n λ, got {squares[i]:.4g} ≤ {n * lam:.4g}; lower lam"
        )
    owner = np.arange(num_hidden) % n
    energy = strengths(squares, 1 / n, sigma, lam) / np.bincount(owner)
    columns = (x * np.sqrt(energy / squares)[:, None])[owner].T
    return DAE(jnp.asarray(columns, jnp.float32), jnp.asarray(columns, jnp.float32))


def generalizing(x: Float[np.ndarray, "n d"], labels: np.ndarray, sigma: float, lam: float, num_hidden: int) -> DAE:
    """The solution that stores each cluster's second moments; every neuron mixes all directions of its cluster.

    W Wᵀ leaves a rotation of the neurons free. The one used here spreads the cluster's mean evenly over its neurons,
    so that they all fire on its photos.

    Args:
      x: [n, D].
      labels: int [n], 0 … K−1.
      sigma: σ.
      lam: λ.
      num_hidden: p, divided evenly between the clusters.

    Raises:
      ValueError: for bad x, σ or λ, an empty cluster, data that are not separable, fewer neurons for a cluster than it
        has directions with m_j > 0, or a neuron that does not fire on a photo of its own cluster.
    """
    solution = blocks(x, labels, sigma, lam)
    if len(solution) > 1:
        apart = separability(x, labels, sigma)
        if not apart.separable:
            (j, i, low), (b, a, high) = apart.worst_inside, apart.worst_across
            raise ValueError(
                f"the clusters are not separable: lowest cosine inside is {low:.3g} (x[{j}], x[{i}]), must be above 0;"
                f" highest across is {high:.3g} (x[{b}], x[{a}]), must be below 0"
            )
    counts = [len(part) for part in np.array_split(np.arange(num_hidden), len(solution))]
    columns = [
        _columns(block, x[labels == label].astype(np.float64), counts[label], label)
        for label, block in enumerate(solution)
    ]
    w = jnp.asarray(np.concatenate(columns, 1), jnp.float32)
    return DAE(w, w)


def check_clusters(labels: np.ndarray, count: int) -> int:
    """The number K of clusters; raises `ValueError` unless the labels are `count` integers that use all of 0 … K−1."""
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {count} integers, one for each vector, got {labels.dtype} {labels.shape}")
    if labels.min() < 0:
        raise ValueError(f"labels must be 0 or more, got {labels.min()}")
    sizes = np.bincount(labels)
    if not sizes.all():
        raise ValueError(f"cluster {int(sizes.argmin())} is empty; number the clusters 0 … K−1 without gaps")
    return len(sizes)


def _columns(block: Block, members: np.ndarray, count: int, label: int) -> np.ndarray:
    """W of one cluster, [D, count]: U diag(√m) Qᵀ, the columns of Q [count, r] orthonormal."""
    kept = block.strengths > 0
    rank = int(kept.sum())
    if count < rank:
        raise ValueError(
            f"cluster {label} needs {rank} neurons, one for each direction kept, got {count}; raise num_hidden"
        )
    basis = block.directions[:, kept] * np.sqrt(block.strengths[kept])
    if not rank:
        return np.zeros((members.shape[1], count))
    inside = members @ basis  # [n_k, r]
    # Cosines of DCT-II: the first column is constant and no other entry exceeds √2 times it, so the mean dominates.
    q = np.cos(np.pi * np.arange(rank) * (np.arange(count)[:, None] + 0.5) / count)
    q /= np.linalg.norm(q, axis=0)
    q @= _first_axis_to(inside.mean(0))
    fires = inside @ q.T > 0
    if not fires.all():
        i, neuron = np.argwhere(~fires)[0]
        raise ValueError(
            f"cluster {label} is too wide for one linear block: neuron {neuron} of it does not fire on its photo {i};"
            " split the cluster"
        )
    return basis @ q.T


def _first_axis_to(direction: np.ndarray) -> np.ndarray:
    """An orthogonal matrix whose first row is the given direction, scaled to length 1 (a Householder reflection)."""
    unit, identity = direction / np.linalg.norm(direction), np.eye(len(direction))
    normal = unit - identity[0]
    length = normal @ normal
    return identity - (2 / length) * np.outer(normal, normal) if length > 1e-24 else identity


def _extreme(order: np.ndarray, values: np.ndarray) -> tuple[int, int, float]:
    """(row, column, value) where `order` is highest."""
    j, i = np.unravel_index(order.argmax(), order.shape)
    return int(j), int(i), float(values[j, i])
