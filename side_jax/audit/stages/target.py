"""Stage 1, target: trains the model under audit, or records the one that is loaded."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from side_jax.audit.cost import programs
from side_jax.audit.cost.jobs import Job, Setting, abstract_images
from side_jax.audit.stage import Audit, Stage, data_print
from side_jax.audit.target_files import EXPORT, model_path
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.declare import CONTENT, DISTINCT, check_known, decided, one_of, option
from side_jax.runtime.distributed import once
from side_jax.runtime.files import Json, absolute, file_hash, fingerprint, plain
from side_jax.runtime.sharding import stage_key
from side_jax.runtime.training import Loss, TrainOptions, epoch_batches, fit, init_state, init_variables, steps_done
from side_jax.targets import diffusers
from side_jax.targets.families import family_of
from side_jax.targets.target import Facts, Target, target_loss
from side_jax.targets.unet import UNet

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

_log = logging.getLogger(__name__)
_UNET = {
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "dropout": 0.0,
}


def _trained(options: "TargetOptions") -> bool:
    return options.source == "train"


@dataclasses.dataclass(frozen=True)
class TargetOptions:
    """The model under audit."""

    source: str = option(
        "train",
        "train | load | none, for the generated images of samples.paths",
        one_of("train", "load", "none"),
    )
    path: str = option(
        "",
        "load: a diffusers directory, a guided-diffusion .pt with its flags in .json, or a workdir",
        decides=CONTENT,
    )
    classes: tuple[int, ...] = option(
        (),
        "load: classes that a class-conditional target was trained on, if not all of its embeddings were; class k of"
        " the photos is the k-th of them",
        DISTINCT,
        used=lambda options: len(options.classes) > 0,
    )
    unet: Mapping[str, Any] = option(_UNET, "diffusers' UNet2DModel: same names, same meaning", used=_trained)
    schedule: Mapping[str, Any] = option(
        {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02},
        "diffusers' DDPMScheduler: same names, same meaning",
        used=_trained,
    )
    train: TrainOptions = option(
        TrainOptions(
            num_steps=258_000,
            learning_rate=1e-4,
            warmup_steps=500,
            b1=0.95,
            weight_decay=1e-6,
            ema_power=0.75,
            flip=True,
            checkpoint_every=5_000,
        ),
        "train: how",
        used=_trained,
    )

    def check(self, path: str) -> None:
        """Refuses to load a model without a path."""
        if self.source == "load" and not self.path:
            raise ValueError(
                f"{path}.path is empty; target.source='load' needs a diffusers directory, a guided-diffusion .pt or a"
                " workdir"
            )
        if self.source == "train" and self.classes:
            raise ValueError(f"{path}.classes is {self.classes}, but a target is trained without classes; leave it out")

    def make_net(self, image_size: int, channels: int) -> UNet:
        """The UNet to train. Image size and channels come from the data set."""
        fields: Json = {key: tuple(v) if isinstance(v, list) else v for key, v in self.unet.items()}
        check_known(UNet, fields, "target.unet")
        if fields.get("num_class_embeds") is not None:
            raise ValueError(
                f"target.unet.num_class_embeds is {fields['num_class_embeds']}, but a target is trained without"
                " classes; leave it out (a class-conditional target can be loaded)"
            )
        return UNet(sample_size=image_size, in_channels=channels, out_channels=channels, **fields)

    def make_schedule(self) -> Schedule:
        """The noise schedule to train with."""
        fields: Json = {key: tuple(v) if isinstance(v, list) else v for key, v in self.schedule.items()}
        check_known(Schedule, fields, "target.schedule")
        schedule = Schedule(**fields)
        if schedule.prediction_type != "epsilon":
            raise ValueError(
                f"target.schedule.prediction_type is {schedule.prediction_type!r}, but a target is trained to predict"
                " 'epsilon' (one that predicts something else can be loaded)"
            )
        return schedule


class TargetStage(Stage):
    """Trains the target, or records the one that is loaded."""

    name = "target"
    folder = "target"

    def spec(self, audit: Audit) -> Json:
        """The hashes of a loaded target's files, or the architecture, training and data of a trained one."""
        options = audit.options.target
        spec: Json = {"target": decided(options)}
        if options.source == "load":
            root = model_path(options.path)
            files, classes = family_of(root).files(root), audit.target().classes
            spec["target"] |= {"classes": classes} if classes else {}  # perhaps those of a workdir that loaded it
            return spec | {"files": {name: file_hash(file) for name, file in files.items()}}
        return spec | {"seed": audit.options.seed, "images": data_print(audit.split.train)}

    def request(self, audit: Audit) -> Json:
        """The path of a loaded target: a model that has moved is recorded again."""
        return {"path": audit.options.target.path} if audit.options.target.source == "load" else {}

    def check(self, audit: Audit) -> None:
        """A loaded target must make images of the photos' size, and must have been trained on the training photos."""
        options = audit.options
        if options.target.source == "train":
            return
        target, dataset = audit.target(), options.dataset
        wanted = (dataset.image_size, dataset.image_size, dataset.channels)
        if target.image_shape != wanted:
            raise ValueError(
                f"target {options.target.path} makes {target.image_shape} images, the data set is {wanted}; set"
                " dataset.image_size and dataset.channels to the target's"
            )
        _check_classes(target, options.target)
        _check_training_images(target, audit)
        for note in _class_notes(target, audit):
            _log.warning("%s", note)

    def run(self, audit: Audit) -> Json:
        """Returns facts of the training, or the path of the loaded model."""
        options = audit.options
        if options.target.source == "load":
            path = str(absolute(model_path(options.target.path)))
            target = audit.target()
            notes = (*target.notes, *_class_notes(target, audit))
            return {"source": "load", "path": path, "classes": target.classes, "notes": notes}
        train, directory = options.target.train, audit.workdir / "target"
        net = options.target.make_net(options.dataset.image_size, options.dataset.channels)
        schedule, key = options.target.make_schedule(), stage_key(options.seed, "target")
        shape = (1, options.dataset.image_size, options.dataset.image_size, options.dataset.channels)
        inputs = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
        state, seconds = fit(
            init_state(init_variables(net, key, inputs), train),
            Loss(target_loss(net, schedule, train.flip), key),
            epoch_batches({"image": audit.split.train.images}, train.batch_size, options.seed),
            train,
            directory,
            "target",
        )
        facts = {
            "seed": options.seed,
            "steps": train.num_steps,
            "loss": float(state.loss),
            "config_hash": fingerprint(self.spec(audit)),
            "train": plain(train),
            "dataset": plain(options.dataset),
            "training_ids": list(audit.split.train.ids),
            "training_hashes": list(audit.split.train.hashes),
            "heldout_ids": list(audit.split.heldout.ids),
            "seconds": seconds,
        }
        weights = state.ema if train.ema_power > 0 else state.params
        trained = Target(net, jax.device_get(weights), schedule, facts=Facts(facts))
        once("target", lambda: diffusers.save_target(trained, directory / EXPORT))
        return {"source": "train", **facts}

    def progress(self, audit: Audit) -> Iterator[str]:
        """Training steps of the target."""
        if audit.options.target.source == "train":
            yield steps_done(audit.folder(self.folder), audit.options.target.train)

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """Training of the target."""
        options, target, shape = setting.options, setting.model, setting.shape
        if options.target.source == "load":
            return
        train = options.target.train
        yield Job(
            self.name,
            f"train, {train.num_steps:,} steps",
            train.num_steps * train.batch_size,
            "target training",
            lambda size: programs.training_step(
                {"params": target.params},
                target_loss(target.net, target.schedule, train.flip),
                train,
                {"image": abstract_images(shape, size)},
            ),
            train.batch_size,
        )


def _check_classes(target: Target, options: TargetOptions) -> None:
    """Refuses classes that the target does not have."""
    count = target.net.num_classes
    wrong = [k for k in options.classes if not 0 <= k < (count or 0)]
    if wrong:
        has = f"has the classes 0 … {count - 1}" if count else "has no classes"
        raise ValueError(f"target.classes names {wrong[0]}, but the target {options.path} {has}")


def _class_notes(target: Target, audit: Audit) -> tuple[str, ...]:
    """What to know of the classes of a class-conditional target and of the photos."""
    count, photos = target.net.num_classes, len(audit.split.train.label_names)
    if count is None:
        return ()
    chosen = f" {len(target.classes)} of" if target.classes else ""
    generated, notes = len(target.classes or range(count)), []
    if photos and generated != photos:
        notes.append(
            f"images are generated of{chosen} its {count} classes, but the photos have {photos}: target.classes names"
            " those that it was trained on, dataset.class_order numbers the photos'"
        )
    elif chosen:
        notes.append(f"images are generated of{chosen} its {count} classes (target.classes)")
    return tuple(notes)


def _check_training_images(target: Target, audit: Audit) -> None:
    """Refuses a target that was trained on other photos, or that does not say on which while a fraction is held out."""
    split, path, fraction = audit.split, audit.options.target.path, audit.options.dataset.heldout_fraction
    trained = target.facts.get("training_hashes")
    if trained is None and fraction > 0:
        raise ValueError(
            f"target {path} does not say which images it was trained on: dataset.heldout_fraction={fraction:g} would"
            " call some of them held-out, and hide what it copies; name photos that it never saw in"
            " dataset.heldout_path, or set dataset.heldout_fraction=0, which calibrates nothing"
        )
    if trained is None:
        return
    leaked = len(set(trained) & set(split.heldout.hashes))
    absent = len(set(split.train.hashes) - set(trained))
    if leaked or absent:
        raise ValueError(
            f"target {path} was trained on other images: {leaked} of its {len(trained)} are held out by this config,"
            f" and it never saw {absent} of the {len(split.train)} called training images; use the dataset.* settings"
            " of its training"
        )
