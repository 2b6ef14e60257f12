"""AMS and UMS read plainly off the table of all scores: one loop over images, no matching, no sorting."""

import numpy as np


def random_scores(seed: int, images: int = 200, training: int = 30) -> np.ndarray:
    """Scores [N, M] from −0.3 to 1 in steps of a tenth: ties everywhere, and on the edges of the bands."""
    return np.random.RandomState(seed).randint(-3, 11, (images, training)).astype(np.float32) / np.float32(10)


def plain_scores(scores: np.ndarray, low: float, high: float) -> tuple[float, float, float]:
    """AMS, UMS and UMS_all of [low, high), or [low, 1] up to 1 (DESIGN §5). Ties go to the first training image."""
    memorized, winners, found = 0, set(), set()
    for row in scores.tolist():
        inside = [low <= score and (score < high or high == 1) for score in row]
        best = row.index(max(row))
        if inside[best]:
            memorized += 1
            winners.add(best)
        found.update(j for j in range(len(row)) if inside[j])
    return memorized / len(scores), len(winners) / len(scores), len(found) / len(scores)
