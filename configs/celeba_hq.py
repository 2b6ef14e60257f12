"""The paper's first data set: CelebA-HQ-FI, 5,478 photos of 307 people at 128x128, a target trained on all of them.

DATA holds train/ID/x.jpg and test/ID/x.jpg, as CelebA-HQ-FI is distributed
(github.com/ndb796/CelebA-HQ-Face-Identity-and-Attributes-Recognition-PyTorch); an ID in both is one person. SSCD is
sscd_disc_mixup of github.com/facebookresearch/sscd-copy-detection.

Command   python main.py --config=configs/celeba_hq.py --workdir=runs/celeba_hq \
              --config.dataset.path=DATA --config.extract.weights=sscd_disc_mixup.torchvision.pt
Hardware  one GPU with 80 GB, or several that share the batch: training takes about 0.6 GiB per image of the batch of 64
Cost      about 65 hours of an A100: target 54, synthetic images 1.4, extraction 9. Counted by --dry_run, not measured,
          at an assumed fifth of the peak: 123 GFLOP for a call of the UNet, 127 with the guide's gradient, both in
          bfloat16; 370 for an image in training, in TF32
Compare   Table 1 of the paper, AMS / UMS in %, averaged over the λ above 0 (λ = 0 is Random):
                    low             mid            high
          Random    11.656 / 2.120  0.596 / 0.328  0.044 / 0.040
          OL-TI      2.649 / 0.744  0.075 / 0.057  0.005 / 0.005
          SIDE      15.172 / 2.342  1.115 / 0.444  0.054 / 0.044
          The later version (arXiv 2410.02467v7): SIDE 23.266 / 4.198, 2.227 / 0.842, 0.141 / 0.148, at the same Random
Weak      The paper gives no interval, no seed, no held-out images, not the number of DDIM steps ("at least 50") or of
          synthetic images, and not SSCD's checkpoint or input size: the 50, 50,000 and disc_mixup here are choices.

Nothing calibrates these scores: SSCD finds photos of the same person alike, whether or not the model saw them. Either
give photos of the same people that it never saw, --config.dataset.heldout_path=UNSEEN, or train the target on half of
the photos, --config.dataset.heldout_fraction=0.5, and compare with the other half; the numbers are then no longer the
paper's, who trained on twice as many. --config.methods="('random','side','ol_ti')" compares the rows of Table 1.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """The default is this experiment, but for the held-out half and the descriptor."""
    config = default.get_config()
    config.dataset.heldout_fraction = 0.0
    config.extract.descriptor = "sscd"
    return config
