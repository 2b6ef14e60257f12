"""Pictures that are several times among the training photos, and what finds them."""

from collections.abc import Mapping

import numpy as np

from side_jax.audit.by_method import Row
from side_jax.audit.stage import Audit
from side_jax.runtime.files import Json


def repeated_pictures(audit: Audit, sweep: Mapping[float, Row]) -> Json | None:
    """Pictures that are several times among the training photos; None if near-duplicates were not searched.

    "near_duplicate" is the cosine from which two photos are one picture; "pictures" counts all different pictures.
    "repeated" has a row for each picture with more than one photo, those with most photos first: the photo to keep, the
    others, and how many images of the main method find it in the highest band. "scales" counts the different photos and
    pictures that each λ finds.
    """
    train, picture, band = audit.split.train, audit.split.train_pictures(), audit.bands()[-1]
    if picture is None:
        return None
    photos = np.split(np.argsort(picture, kind="stable"), np.cumsum(np.bincount(picture))[:-1])
    winners = {scale: row.train.winners(band) for scale, row in sweep.items()}
    hits = {scale: found[found >= 0] for scale, found in winners.items()}
    images = np.bincount(picture[np.concatenate(list(hits.values()))], minlength=len(photos))
    repeated = sorted((i for i, members in enumerate(photos) if len(members) > 1), key=lambda i: -len(photos[i]))
    return {
        "near_duplicate": audit.split.near_duplicate,
        "pictures": len(photos),
        "repeated": [
            {
                "keep": train.ids[photos[i][0]],
                "delete": [train.ids[j] for j in photos[i][1:]],
                "images": int(images[i]),
            }
            for i in repeated
        ],
        "scales": [
            {"scale": scale, "photos": len(np.unique(found)), "pictures": len(np.unique(picture[found]))}
            for scale, found in hits.items()
        ],
    }
