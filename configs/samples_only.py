"""Generated images alone, without the model that made them: from any framework, or from someone else's service.

1. SAMPLES holds the generated images: a folder, an .npz with `images` uint8 [N, H, W, C], or a zarr array of the same.
   They have the size that the model made, dataset.image_size; dataset.resize=crop_first resizes others as the photos.
2. TRAINED and UNSEEN are folders of photos as for configs/custom_folder.py. Without UNSEEN nothing calibrates the
   scores. Photos must be prepared as for the model's training (docs/photos.md).
3. Several sets are rows of one table: (("λ=0", "gen0"), ("λ=2", "gen2")) of one model, or names of several models,
   which are compared with the first; image by image where their files have the same names.

What needs the model is left out, and named on the page: the sanity check, guidance, detectors, steering.

Command   python main.py --config=configs/samples_only.py --workdir=runs/samples \
              --config.samples.paths="(('samples', 'SAMPLES'),)" \
              --config.dataset.path=TRAINED --config.dataset.heldout_path=UNSEEN --config.dataset.image_size=128 \
              --config.extract.weights=sscd_disc_mixup.torchvision.pt
Hardware  2 CPU cores do for tens of thousands of images with --config.extract.descriptor=pixel; SSCD wants a GPU
Compare   each set with UNSEEN: the excess over it is the finding
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides for images that are there already."""
    config = default.get_config()
    config.dataset.heldout_fraction = 0.0
    config.target.source = "none"
    config.extract.descriptor = "sscd"
    return config
