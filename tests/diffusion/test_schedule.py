import numpy as np
import pytest

from side_jax.diffusion.schedule import Schedule


def test_alpha_bar_by_hand():
    alpha_bar = Schedule(num_train_timesteps=3, beta_start=0.1, beta_end=0.3).alpha_bar()
    np.testing.assert_allclose(alpha_bar, [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7], rtol=1e-6)
    assert alpha_bar.dtype == np.float32


def test_default_is_the_papers_schedule():
    alpha_bar = Schedule().alpha_bar()
    assert alpha_bar[0] == pytest.approx(0.9999, abs=1e-7)
    assert alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_leading_timesteps():
    np.testing.assert_array_equal(Schedule().ddim_timesteps(50), np.arange(980, -1, -20))
    np.testing.assert_array_equal(Schedule(num_train_timesteps=10).ddim_timesteps(3), [6, 3, 0])
    np.testing.assert_array_equal(Schedule(num_train_timesteps=10, steps_offset=1).ddim_timesteps(2), [6, 1])


def test_other_betas_by_hand():
    scaled = Schedule(num_train_timesteps=2, beta_start=0.01, beta_end=0.09, beta_schedule="scaled_linear")
    np.testing.assert_allclose(scaled.alpha_bar(), [0.99, 0.99 * 0.91], rtol=1e-6)
    cosine = Schedule(num_train_timesteps=2, beta_schedule="squaredcos_cap_v2").alpha_bar()
    f = np.cos((np.array([0, 0.5]) + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine, [f[1] / f[0], f[1] / f[0] * 0.001], rtol=1e-6)
    trained = Schedule(num_train_timesteps=3, trained_betas=(0.5, 0.25, 0.5)).alpha_bar()
    np.testing.assert_allclose(trained, [0.5, 0.375, 0.1875], rtol=1e-6)


def test_zero_terminal_snr_by_hand():
    """√ᾱ = (.9, .6, .3) becomes (.9, .45, 0): shifted by −.3, then scaled by .9/.6."""
    betas = (1 - 0.81, 1 - 0.36 / 0.81, 1 - 0.09 / 0.36)
    schedule = Schedule(
        num_train_timesteps=3, trained_betas=betas, rescale_betas_zero_snr=True, prediction_type="v_prediction"
    )
    np.testing.assert_allclose(schedule.alpha_bar(), [0.81, 0.45**2, 0], rtol=1e-6)
    assert schedule.alpha_bar()[-1] == 0


def test_trailing_and_linspace_timesteps():
    np.testing.assert_array_equal(Schedule(timestep_spacing="trailing").ddim_timesteps(50), np.arange(999, 0, -20))
    np.testing.assert_array_equal(Schedule(timestep_spacing="linspace").ddim_timesteps(4), [999, 666, 333, 0])


def test_previous_timestep_is_a_fixed_distance_away_and_not_the_next_of_the_list():
    """7 of 1000, trailing: 999, 856, 713, … but each step goes 1000 // 7 = 142 down."""
    schedule = Schedule(timestep_spacing="trailing")
    alpha_bar, steps = schedule.alpha_bar(), schedule.steps(7)
    np.testing.assert_array_equal(steps.t.t[:3], [999, 856, 713])
    np.testing.assert_array_equal(steps.s.t[:2], [857, 714])
    np.testing.assert_array_equal(steps.t.alpha_bar[:2], alpha_bar[[999, 856]])
    np.testing.assert_array_equal(steps.s.alpha_bar[:2], alpha_bar[[857, 714]])
    assert steps.s.alpha_bar[-1] == alpha_bar[0]  # 142 − 142


def test_last_alpha_bar_is_one_or_that_of_timestep_0():
    last = Schedule().steps(10).s
    assert (last.t[-1], last.alpha_bar[-1]) == (-1, 1)
    unset = Schedule(set_alpha_to_one=False)
    assert unset.steps(10).s.alpha_bar[-1] == unset.alpha_bar()[0]


def test_process_is_alpha_bar_of_every_timestep():
    np.testing.assert_array_equal(Schedule().process().alpha_bar, Schedule().alpha_bar())


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_num_steps_out_of_range_is_named(num_steps):
    with pytest.raises(ValueError, match=f"num_steps must be 1 to 1000, got {num_steps}"):
        Schedule().ddim_timesteps(num_steps)


@pytest.mark.parametrize(
    ("schedule", "num_steps", "timestep"),
    [
        (Schedule(steps_offset=1), 1000, 1000),
        (Schedule(timestep_spacing="trailing"), 61, -1),  # 1000 / 61 is rounded: a 62nd step at −1
    ],
)
def test_timesteps_outside_the_schedule_are_refused(schedule, num_steps, timestep):
    with pytest.raises(ValueError, match=f"num_steps {num_steps} with .* visits timestep {timestep}, outside 0 … 999"):
        schedule.steps(num_steps)


V = {"prediction_type": "v_prediction"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta_start": 0.1, "beta_end": 0.01}, "beta_start <= beta_end < 1, got 0.1 and 0.01"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid' is not supported; known: linear, scaled_linear"),
        ({"timestep_spacing": "even"}, "timestep_spacing 'even' is not supported; known: leading, trailing, linspace"),
        ({"prediction_type": "eps"}, "prediction_type 'eps' is not supported; known: epsilon, v_prediction, sample"),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be an integer, 1 or more, got 0"),
        ({"steps_offset": -1}, "steps_offset must be an integer, 0 or more, got -1"),
        ({"trained_betas": (0.1, 0.2)}, "trained_betas has 2 entries, num_train_timesteps is 1000; they must agree"),
        ({"trained_betas": (0.1, 1.0), "num_train_timesteps": 2}, "above 0 and below 1, got 1.0"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr with prediction_type 'epsilon'"),
        ({"rescale_betas_zero_snr": True, "num_train_timesteps": 1} | V, "and 1 timesteps is not supported"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**options)
