import pytest
import torch

from side_jax import load_target
from tests.golden import guided
from tests.golden.diffusers_models import NUM_STEPS, TRAINED
from tests.golden.ours import guided_states, make_guide

SEED = 5  # not the golden file's; of few seeds does rounding alone take a trajectory elsewhere


@pytest.fixture(scope="module")
def theirs():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the images are small, and XLA has the other cores
    yield guided.Sampler(), guided.inputs(SEED)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("lam", guided.LAMBDAS)
@pytest.mark.parametrize("order", guided.ORDERS)
@pytest.mark.parametrize("name", guided.GUIDES)
def test_guided_trajectories_equal_torch(name, order, lam, theirs, compare):
    sampler, given = theirs
    expected = guided.trajectory(sampler, name, given, order, lam)
    target = load_target(TRAINED)
    ours = guided_states(target, make_guide(target, name, given), given["x"], given["labels"], order, lam, NUM_STEPS)
    compare(f"every state of 50 guided DDIM steps: {name}, {order}", f"λ {lam:g}", ours, expected, 1e-3)
