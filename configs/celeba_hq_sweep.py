"""The paper's sweep (seed 002, §4.3): every whole λ from 0 to 50, 50,000 images each, on CelebA-HQ-FI.

Everything else is configs/celeba_hq.py, whose docstring says what DATA holds and what the numbers mean.

Command   python main.py --config=configs/celeba_hq_sweep.py --workdir=runs/celeba_hq_sweep \
              --config.dataset.path=DATA --config.extract.weights=sscd_disc_mixup.torchvision.pt
Hardware  as configs/celeba_hq.py
Cost      --dry_run counts it, without data or weights; docs/scale.md shows what it says
"""

from ml_collections import ConfigDict

from configs import celeba_hq


def get_config() -> ConfigDict:
    """51 λ."""
    config = celeba_hq.get_config()
    config.extract.scales = tuple(float(scale) for scale in range(51))
    return config
