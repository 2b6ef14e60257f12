"""The paper's second data set: 25,000 photos of CelebA at 128x128, from TensorFlow Datasets; the next 25,000 held out.

Which 25,000 the paper took, and with which labels it trained its classifier, it does not say. Here they are the first,
centre-cropped to 178x178, and the labels are clusters of the synthetic images (the paper's later version): TFDS has
CelebA's attributes, but not its identities. Prepare the data once: python -c "import tensorflow_datasets as tfds;
tfds.builder('celeb_a', file_format='array_record').download_and_prepare()".

From CelebA's own zip and identity file instead: docs/photos.md.

Command   python main.py --config=configs/celeba_25k.py --workdir=runs/celeba_25k \
              --config.extract.weights=sscd_disc_mixup.torchvision.pt
Hardware  as configs/celeba_hq.py, and 16 GiB of host memory for the photos
Cost      about 93 hours of an A100: target 82, synthetic images 1.4, extraction 9; counted as in configs/celeba_hq.py
Compare   Table 1 of the paper, AMS / UMS in %, averaged over the λ above 0 (λ = 0 is Random):
                           low            mid            high
          Random           5.000 / 4.240  0.100 / 0.100  0.000 / 0.000
          OL-TI            0.164 / 0.152  0.000 / 0.000  0.000 / 0.000
          SIDE             8.756 / 6.940  0.224 / 0.212  0.012 / 0.012
          random labels    5.448 / 4.620  0.176 / 0.164  0 / 0 (section 4.4, one label per image)
Weak      As for CelebA-HQ-FI; and "high" is 6 images of 50,000 against none: read it with its interval.

A held-out photo that nearly equals a training photo (dataset.near_duplicate) is left out, and listed in the report.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides for TFDS's celeb_a."""
    config = default.get_config()
    config.dataset.update(
        {
            "name": "tfds",
            "path": "celeb_a@train[:25000]",
            "heldout_path": "celeb_a@train[25000:50000]",
            "heldout_fraction": 0.0,
        }
    )
    config.target.train.num_steps = 390_000
    config.labels.update({"source": "clusters", "num_clusters": 100, "cohesion": 0.5})
    config.extract.descriptor = "sscd"
    return config
