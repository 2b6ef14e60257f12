"""Your own diffusers model and the images it was trained on.

1. Put the training images below one folder, TRAINED; subfolders name classes, and are not needed.
2. Put as many images as you can of the same kind, that the model never saw, below another, UNSEEN. Without them nothing
   calibrates the scores: real images of one kind are alike without being copies. The audit refuses UNSEEN images that
   are near-duplicates of TRAINED ones.
3. MODEL is the directory that `save_pretrained` wrote (`unet/`, `scheduler/`), or a single UNet2DModel's. A model of
   another size or channel count than dataset.image_size and dataset.channels is refused, with its own.
   Say how its training prepared photos, or its copies may match none: --config.dataset.prepare=diffusers as in its
   unconditional example, or guided_diffusion (docs/photos.md).
4. Download SSCD, sscd_disc_mixup of github.com/facebookresearch/sscd-copy-detection; or do without, with
   --config.extract.descriptor=pixel.

The guide learns clusters of the model's own images; with classes, --config.labels.source=classifier learns these.
Then raise num_images to the paper's 50,000 per λ: rare copies show in large samples only.

Command   python main.py --config=configs/custom_folder.py --workdir=runs/mine \
              --config.dataset.path=TRAINED --config.dataset.heldout_path=UNSEEN --config.target.path=MODEL \
              --config.dataset.image_size=128 --config.extract.weights=sscd_disc_mixup.torchvision.pt
Hardware  one GPU with 24 GiB; lower synthesize.batch_size and extract.batch_size where that is too much
Cost      about 3 GPU hours for the paper's UNet at 128x128, counted as in configs/celeba_hq.py; in proportion to
          num_images and to the operations of your UNet
Compare   λ = 0 ("Random") with the λ above 0, and each with UNSEEN: the excess over it is the finding
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides for a model that is there already."""
    config = default.get_config()
    config.dataset.heldout_fraction = 0.0
    config.target.source = "load"
    config.synthesize.num_images = 10_000
    config.labels.source = "clusters"
    config.extract.update({"descriptor": "sscd", "scales": (0.0, 5.0, 9.0), "num_images": 10_000})
    return config
