import re
from pathlib import Path

import jax
import pytest

from side_jax.runtime.sharding import stage_key

ROOT = Path(__file__).parents[2]


def test_every_stage_draws_from_a_stream_of_its_own():
    """A key knows the first four letters of a name, so no two names in use may share them."""
    texts = [
        file.read_text(encoding="utf-8") for folder in ("side_jax", "docs") for file in (ROOT / folder).rglob("*.py")
    ]
    names = {name for text in texts for name in re.findall(r'stage_key\([^"\n]*"(\w+)"\)', text)}
    assert {"target", "synthesize", "label", "distill", "extract", "detect", "steer"} <= names
    keys = {jax.random.key_data(stage_key(0, name)).tobytes() for name in names}
    assert len(keys) == len(names)


@pytest.mark.parametrize(
    "seed",
    [
        -1,
        2**32,
        pytest.param(
            2**32 + 5,
            marks=pytest.mark.given(
                kind=11,
                input="`sample(seed=2**32+5)`",
                before="equals seed 5",
                now='refused: "seed must be in [0, 2^32), got 4294967301"',
            ),
        ),
    ],
)
def test_seed_that_jax_would_cut_is_refused(seed):
    with pytest.raises(ValueError, match=rf"seed must be in \[0, 2\^32\), got {seed}"):
        stage_key(seed, "extract")
