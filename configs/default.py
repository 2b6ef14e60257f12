"""Every field, with the paper's values where the paper gives one (seed 002, CelebA-HQ at 128x128).

The other configs are overrides of this one. It describes itself only: point `dataset.path` at your images and choose
`target.source` before running it.

Command   python main.py --config=configs/default.py --workdir=runs/mine --config.dataset.path=photos
Hardware  one GPU: 24 GB to audit a model, 80 GB to train this one (some 0.6 GiB per image of a batch); see --dry_run
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    """The locked default."""
    config = ConfigDict()
    config.seed = 0  # of everything but the split: training, noise, labels

    # Of the networks in synthesize and extract: float32 | bfloat16 | auto (bfloat16 on GPU and TPU, float32 on CPU).
    # Training is float32. A workdir begun in one is not continued in the other.
    config.precision = "auto"

    # Rows of Table 1 to compare, each replacing labels.source and classifier.guide: random (λ = 0), ol_ti, side,
    # side_exact, side_clusters, random_labels, and the exact guide's bound and control, exact_train and exact_heldout.
    # Empty: one audit, with these two fields as they are.
    config.methods = ()

    config.dataset = ConfigDict(
        {
            "name": "image_folder",  # orl | image_folder | npz | tfds
            "path": "",  # a folder of class folders, a flat folder, an npz file, or e.g. cifar10@train[:5000] of TFDS
            "image_size": 128,  # pixels a side, after a centre crop
            "channels": 3,  # 1 gray | 3 RGB
            "heldout_fraction": 0.5,  # share never trained on; it calibrates the scores
            "heldout_path": "",  # instead: unseen images from the same pool, when the target trained on everything
            "data_dir": "",  # tfds: where data sets are prepared; empty for its default
            "near_duplicate": 0.98,  # pixel cosine from which two images stay on one side of the split
            "split_seed": 0,  # decides the split, alone
        }
    )

    config.target = ConfigDict(
        {
            "source": "train",  # train | load
            "path": "",  # load: a diffusers directory, a guided-diffusion .pt with its flags in .json, or a workdir
            "unet": {  # diffusers' UNet2DModel: same names, same meaning
                "block_out_channels": (128, 128, 256, 256, 512, 512),
                "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
                "layers_per_block": 2,
                "attention_head_dim": 8,
                "norm_num_groups": 32,
                "dropout": 0.0,
            },
            "schedule": {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02},
            "train": _train(
                num_steps=258_000,
                batch_size=64,
                learning_rate=1e-4,
                warmup_steps=500,
                b1=0.95,
                weight_decay=1e-6,
                ema_max=0.9999,
                ema_power=0.75,  # EMA decay min(ema_max, 1 - (1 + step)^-0.75)
                flip=True,
                checkpoint_every=5_000,
            ),
        }
    )

    # When x0_hat is clipped to the range of the target's scheduler, if that clips: before_guide | after_guide, as a
    # guided eps_hat passed to diffusers' scheduler | consistent, as guided-diffusion: eps_hat is recomputed | none
    config.sampler = ConfigDict({"clip": "before_guide"})

    # The surrogate's training set: unguided samples of the target.
    config.synthesize = ConfigDict({"num_images": 50_000, "num_steps": 50, "batch_size": _batch_size(256)})

    config.labels = ConfigDict(
        {
            # classifier: a teacher, trained on the labelled training images, labels the synthetic ones
            # clusters: k-means of the synthetic images, no training data | random: each synthetic image its own class
            # repeats: each picture that the target makes again and again a class, no training data; for an exact guide
            # dataset: the training images themselves with their labels, no synthetic ones | heldout: as many held-out
            # ones, the control of an exact guide over the training images
            "source": "classifier",
            "targets": "soft",  # classifier, clusters: soft (KL, Eq. 11) | hard (cross-entropy, the later version)
            "num_clusters": 100,  # clusters: K
            "cohesion": 0.5,  # clusters: those with a lower mean cosine to their centre are dropped
            "repeat": 0.75,  # repeats: cosine from which two synthetic images are repeats (SSCD's, 90 % precision)
            "temperature": 0.1,  # clusters: soft targets are softmax(cosine to the centres / temperature)
            # of the class that each image is guided to: uniform, as in the paper | balanced: every class once in each
            # round of K images
            "draw": "uniform",
            "descriptor": "",  # clusters, repeats: pixel | sscd | teacher (its features); empty: that of extract
            "train": _train(num_steps=10_000, batch_size=64, learning_rate=1e-3, warmup_steps=500, flip=True),
        }
    )

    config.classifier = ConfigDict(
        {
            "arch": "resnet34",  # of teacher and student; resnet18, resnet18_small, resnet10_small, resnet10_tiny
            # time_dependent: TDKD, Eq. (11) | exact: the minimiser of Eq. (11) in closed form, without training |
            # time_independent: no noise, "TI" | none: λ = 0 only
            "guide": "time_dependent",
            # time_dependent, what it learns at x_t: labels | posterior, the exact guide's p^t(y|x_t): the same optimum
            "learn": "labels",
            "timesteps": "uniform",  # and at which t: uniform | undecided: half of them where the exact guide is
            "block": 8_192,  # exact: images of its set at once; less takes less memory
            # start of the teacher, or of a guide without one: torchvision's ImageNet weights, .pth or .safetensors
            "pretrained": "",
            "train": _train(num_steps=50_000, batch_size=64, learning_rate=1e-4, warmup_steps=500, flip=True),
        }
    )

    config.extract = ConfigDict(
        {
            "scales": (0.0, 5.0, 6.0, 7.0, 8.0, 9.0),  # lambda; 0 is "Random"
            "num_images": 50_000,  # N_G, per lambda
            "num_steps": 50,
            "eta": 0.0,  # 0 DDIM, 1 ancestral
            "batch_size": _batch_size(256),  # or "auto": what fits; changes speed and memory, never a result
            "descriptor": "pixel",  # pixel: mean-centred unit-norm pixels | sscd: Pizzi et al. 2022, needs its weights
            "weights": "",  # sscd: its file, such as sscd_disc_mixup.torchvision.pt; pixel has none
            "preprocessing": "",  # sscd: small_edge_288 (what "" means) | square_320; pixel has none
            "top_k": 10,  # nearest training images kept per generated image
            # none | matched (scores at or above the lowest band) | all: the others are regenerated when looked at
            "save_images": "none",
            # where real images lie: replicated on every device | sharded over all of them, which waits for all
            # processes at every batch | auto: sharded where they would take a quarter of a device's memory
            "references": "auto",
            # more images at λ = 0, as many as surrogate and gradients of the costliest method would pay for
            "equal_compute": False,
            "bands": (("low", 0.4, 0.5), ("mid", 0.5, 0.6), ("high", 0.6, 1.0)),  # [low, high) of the score; 1.0 closed
        }
    )

    # Do extracted images look memorized from inside too? (seed 003; after extract)
    config.detect = ConfigDict(
        {
            "num_images": 1_000,  # of every λ, at most, half of them memorized if there are so many; 0: no detect stage
            "layers": (),  # by diffusers' names; empty: the hidden layer of every ResNet block of the decoder
            "timesteps": (10,),  # noise levels; of several, as of layers, the best is chosen on half of the images
            "num_noises": 3,  # draws of the noise per image and level
            "wiener": False,  # beside it, the distance of the denoiser from the linear one of the training images
            # Was a photo trained on? Scores of all training and as many held-out photos: loss | secmi | pia
            "attacks": ("loss",),
            "attack_timesteps": (50, 100, 200, 300),
        }
    )

    # Steering away from the memorized representation, as a mitigation: α of h + α (mean(memorized) − mean(others)),
    # negative to steer away. Empty: no steer stage.
    config.steer = ConfigDict(
        {
            "weights": (),
            "layers": (),  # empty: every block of the decoder
            "window": (0.5, 0.95),  # from which to which share of the sampler's steps
            "num_images": 1_000,  # per α, at most; unguided ones of the sweep, with an odd index
        }
    )

    config.report = ConfigDict({"pairs": 24})  # pairs per contact sheet
    return config.lock()


def _batch_size(images: int) -> FieldReference:
    """A number of images or "auto": a field that takes both."""
    return FieldReference(images, field_type=object)


def _train(**overrides: object) -> ConfigDict:
    """AdamW, linear warm-up and cosine decay, clipping, EMA."""
    train = ConfigDict(
        {
            "num_steps": 1_000,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "warmup_steps": 0,
            "b1": 0.9,
            "b2": 0.999,
            "weight_decay": 1e-2,
            "clip_norm": 1.0,
            "ema_max": 0.9999,
            "ema_power": 0.0,  # 0: no average
            "flip": False,  # mirror at random
            "checkpoint_every": 1_000,
            "log_every": 50,
        }
    )
    train.update(overrides)
    return train
