"""What side_jax makes of each comparison's inputs: the default tests and `make parity` share it."""

import functools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

import side_jax
from side_jax.diffusion.prediction import to_prediction
from side_jax.diffusion.sample import trajectory
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.diffusion.transforms import CLIP_ORDERS, fold, guide
from side_jax.evidence.scores import InBand, Scores
from side_jax.matching.search import matches_above
from side_jax.runtime import training
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.targets.state_dict import match_variables, to_torch
from tests.golden.weights import away_from_kinks, make_weights

GOLDEN = Path(__file__).parent
BANDS = ((0.4, 0.5), (0.5, 0.6), (0.6, 1.0))


def difference(first, second):
    """The largest absolute difference."""
    first, second = np.asarray(first), np.asarray(second)
    assert first.shape == second.shape
    return float(np.abs(first - second).max())


def write_adm(folder, name, change=None, flags=None, seed=0):
    """A golden ADM model as its two files; `change` edits its tensors, `flags` its flags."""
    golden = np.load(GOLDEN / "adm" / f"{name}.npz")
    shapes = {key: tuple(shape) for key, shape in json.loads(str(golden["shapes"])).items()}
    tensors = make_weights(shapes, seed)
    if change:
        change(tensors)
    save_file(tensors, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(json.loads(str(golden["flags"])) | (flags or {})))
    return folder / "model.safetensors"


def adm_noise(file, drawn):
    """ε of a guided-diffusion file for the inputs of tests/golden/adm.py."""
    classes = drawn["classes"] if len(drawn["classes"]) else None
    return jax.jit(side_jax.load_target(file).eps)(drawn["x"], drawn["t"], classes)


def denoiser(net, params, process, prediction_type):
    """`Target.denoise` with α and σ as arguments of the program."""
    return lambda x_t, t: to_prediction(net.apply({"params": params}, x_t, t), x_t, *process.at(t), prediction_type)


# One program for every schedule of a network and a prediction type: compiling costs more than the steps.
@functools.partial(jax.jit, static_argnames=("net", "prediction_type", "limit"))
def _trajectory(x_t, params, process, steps, net, prediction_type, limit):
    denoise = denoiser(net, params, process, prediction_type)
    return trajectory(fold(denoise, CLIP_ORDERS[0], limit, process, lambda denoise: denoise), DDIM(), x_t, steps)


def ddim_states(target, x_t, num_steps):
    """Every state of unguided DDIM after x_t, as the sampler takes it: [S, N, H, W, C]."""
    process, steps, kind = target.schedule.process(), target.schedule.steps(num_steps), target.schedule.prediction_type
    return np.asarray(_trajectory(x_t, target.params, process, steps, target.net, kind, target.clip_x0)[1:])


def student(seed, channels=3, change=None):
    """The student of tests/golden/student.py: same architecture, same weights; `change` edits them."""
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 5, time_conditioned=True)
    inputs = jax.ShapeDtypeStruct((1, 16, 16, channels), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = traverse_util.flatten_dict(jax.eval_shape(net.init, jax.random.key(0), *inputs))
    shapes = {path: leaf.shape for path, leaf in variables.items()}
    stored = {_torchvision_name(path): to_torch(path, np.empty(shape)).shape for path, shape in shapes.items()}
    tensors = make_weights(stored, seed)
    if change:
        change(tensors)
    return Classifier(net, match_variables(tensors, shapes, _torchvision_name, "student"))


def _torchvision_name(path):
    _, *modules, leaf = path
    leaf = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
    return ".".join([re.sub(r"(layer\d|downsample)_(\d)", r"\1.\2", module) for module in modules] + [leaf])


def guided_noise(target, seed, x, t, labels, scale):
    """The student's log-probabilities, and ε̂ of Eq. (10)."""
    classifier = student(seed)
    gradient = functools.partial(classifier.gradient, labels=jnp.asarray(labels))
    guided = guide(target.denoise, gradient, target.schedule.process(), jnp.float32(scale))
    return jax.jit(classifier.log_prob)(x, t), jax.jit(guided)(x, t).eps


def make_guide(target, name, given):
    """The student or the exact guide of tests/golden/guided.py, from its inputs."""
    if name == "exact":
        return side_jax.exact_guide(target, given["set_images"], given["set_labels"])
    change = functools.partial(away_from_kinks, margin=given["margin"], gain=given["gain"], fc_bias=given["fc_bias"])
    return student(int(given["seed"]), 1, change)


# One program for every λ of a guide and an order.
@functools.partial(jax.jit, static_argnames=("net", "prediction_type", "limit", "order"))
def _guided(x_t, params, process, steps, classifier, labels, lam, net, prediction_type, limit, order):
    gradient = functools.partial(classifier.gradient, labels=labels)
    denoise = denoiser(net, params, process, prediction_type)
    denoise = fold(denoise, order, limit, process, lambda denoise: guide(denoise, gradient, process, lam))
    return trajectory(denoise, DDIM(), x_t, steps)


def guided_states(target, classifier, x_t, labels, order, lam, num_steps):
    """Every state of guided DDIM after x_t, as the sampler takes it: [S, N, H, W, C]."""
    process, steps, kind = target.schedule.process(), target.schedule.steps(num_steps), target.schedule.prediction_type
    given = x_t, target.params, process, steps, classifier, jnp.asarray(labels), jnp.float32(lam)
    return np.asarray(_guided(*given, target.net, kind, target.clip_x0, order)[1:])


def train(options, x, y, start):
    """Weights, and their average, after every step of a linear regression on the batches `x`, `y`."""

    def loss(params, model_state, key, batch, frozen):
        return jnp.square(batch["x"] @ params["w"] - batch["y"]).mean(), (model_state, {})

    state = training.init_state({"params": {"w": jnp.asarray(start)}}, options)
    weights, averages = [], []
    for inputs, targets in zip(x, y, strict=True):
        batch = {"x": jnp.asarray(inputs), "y": jnp.asarray(targets)}
        state, *_ = training._train_step(
            state, training.Loss(loss, jax.random.key(0)), batch, jnp.zeros(1, jnp.int32), options
        )
        weights.append(np.array(state.params["w"]))
        averages.append(np.array(state.ema["w"]))
    return np.array(weights), np.array(averages)


def our_scores(scores, low, high):
    """AMS, UMS, UMS_all of a table of scores [N, M], from matches of each image with every training image."""
    training_images = np.eye(scores.shape[1], dtype=np.float32)
    matches = side_jax.match(scores, training_images, scores.shape[1])
    above = matches_above(scores, training_images, low)
    offsets = np.cumsum([0, *(len(indices) for indices, _ in above)])
    listed = InBand(offsets, *(np.concatenate(column) for column in zip(*above, strict=True)))
    unused = np.zeros(len(scores))
    read = Scores(matches.scores[:, 0], matches.indices[:, 0], listed, carlini=unused, ratio=unused)
    ums_all = read.all_in_band(("band", low, high)).distinct() / len(scores)
    return side_jax.ams(matches, low, high), side_jax.ums(matches, low, high), ums_all
