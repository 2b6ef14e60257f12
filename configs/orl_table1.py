"""Every row on the demo's model: the paper's Table 1, and the exact guide with its bound and control.

The exact guide is made with the teacher's labels and with repeats; the bound is over training photos, the control over
held-out ones.
Every λ is in the report, and their mean as in the paper; nothing was chosen by looking at the outcome.

Command   python main.py --config=configs/orl_table1.py --workdir=runs/orl_table1
Hardware  2 CPU cores, 4 GiB, about an hour
Compare   seed 002, Table 1, CelebA-HQ-FI (SSCD, 128x128, 50,000 images per λ), AMS / UMS in %: Random 0.596 / 0.328,
          OL-TI 0.075 / 0.057, SIDE 1.115 / 0.444 at mid similarity
"""

from ml_collections import ConfigDict

from configs import orl


def get_config() -> ConfigDict:
    """The demo with every method, and a student trained three times as long."""
    config = orl.get_config()
    guides = ("side", "side_exact", "side_repeats", "exact_train", "exact_heldout")
    config.methods = ("random", "ol_ti", *guides, "random_labels")
    config.classifier.train.num_steps = 1_500
    config.extract.num_images = 320
    return config
