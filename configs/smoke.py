"""Every stage on almost nothing: the end-to-end test. Its numbers mean nothing.

Command   python main.py --config=configs/smoke.py --workdir=runs/smoke
Hardware  2 CPU cores, 2 minutes
"""

from ml_collections import ConfigDict

from configs import orl


def get_config() -> ConfigDict:
    """The ORL photos at 16x16, a UNet of 20,000 parameters, 3 steps of everything."""
    config = orl.get_config()
    config.dataset.image_size = 16
    config.target.source = "train"
    config.target.unet.update(
        {
            "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
        }
    )
    few = {"num_steps": 3, "batch_size": 8, "warmup_steps": 1, "checkpoint_every": 2, "log_every": 1}
    for train in (config.target.train, config.labels.train, config.classifier.train):
        train.update(few)
    config.classifier.guide, config.classifier.arch = "time_dependent", "resnet10_tiny"
    config.synthesize.update({"num_images": 16, "num_steps": 3, "batch_size": 8})
    config.sanity.num_images = 8
    config.extract.update({"scales": (0.0, 2.0), "num_images": 12, "num_steps": 3, "batch_size": 8})
    config.extract.equal_compute = False
    config.recall.update({"num_photos": 24, "num_images": 1, "scales": (2.0,)})
    config.detect.update({"num_images": 12, "num_noises": 1, "wiener": True, "attack_timesteps": (100,)})
    config.steer.weights = (-2.0,)
    config.report.pairs = 4
    return config
