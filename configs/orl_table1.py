"""Every row of the paper's Table 1 on the demo's model: Random, OL-TI, SIDE and random labels.

λ = 5 … 9 averaged, as in the paper; nothing was chosen by looking at the outcome. One HTML table, in the report.

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
    config.methods = ("random", "ol_ti", "side", "random_labels")
    config.classifier.train.num_steps = 1_500
    config.extract.scales = (0.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    return config
