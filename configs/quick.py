"""A first verdict on your own model in minutes: 256 images for Random and as many for the exact guide, by pixels.

TRAINED, UNSEEN and MODEL are as in configs/custom_folder.py. Nothing is trained or downloaded: the guide is the exact
one of 16 clusters of the model's own images, and images are compared by pixels, which finds near-identical copies
only. 256 images see copies from a share of about 4 %; "not enough data" is a common answer here, and says how many
images it would take. Then take configs/custom_folder.py for SSCD, more images and more λ.

Command   python main.py --config=configs/quick.py --workdir=runs/quick \
              --config.dataset.path=TRAINED --config.dataset.heldout_path=UNSEEN --config.target.path=MODEL \
              --config.dataset.image_size=32
Hardware  2 CPU cores for a model of 32x32 pixels; a GPU for larger ones (--dry_run says how long)
Compare   λ = 0 ("Random") with UNSEEN: the excess over it is the finding
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides for few images, few steps and no training."""
    config = default.get_config()
    config.dataset.heldout_fraction = 0.0
    config.target.source = "load"
    config.synthesize.update({"num_images": 256, "num_steps": 25, "batch_size": 32})
    config.sanity.num_images = 32
    config.labels.update({"source": "clusters", "descriptor": "pixel", "num_clusters": 16, "cohesion": 0.0})
    config.classifier.guide = "exact"
    config.extract.update(
        {"descriptor": "pixel", "scales": (0.0, 4.0), "num_images": 256, "num_steps": 25, "batch_size": 32}
    )
    config.recall.update({"num_photos": 64, "num_images": 2, "scales": (4.0,)})
    config.detect.update({"num_images": 64, "attacks": ("loss",)})
    return config
