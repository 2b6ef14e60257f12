"""CIFAR-10 from TensorFlow Datasets: the UNet of google/ddpm-cifar10-32, loaded or trained; the test images held out.

Prepare the data once: python -c "import tensorflow_datasets as tfds;
tfds.builder('cifar10', file_format='array_record').download_and_prepare()".

Command   hf download google/ddpm-cifar10-32 --local-dir=ddpm-cifar10-32
          python main.py --config=configs/cifar10.py --workdir=runs/cifar10 \
              --config.target.source=load --config.target.path=ddpm-cifar10-32 \
              --config.extract.weights=sscd_disc_mixup.torchvision.pt
          Without the two target fields the UNet is trained.
Hardware  one GPU with 24 GiB: training keeps about 0.1 GB of activations per image in the batch of 128
Cost      with the checkpoint about 1 hour of an A100, most of it extraction; training adds 32. Counted, not measured,
          at a fifth of the peak, which small images may miss: 11.8 GFLOP for a call of the UNet in bfloat16, 35.5 for
          an image in training, in TF32
Compare   Nothing in the paper, which has faces only.
Weak      SSCD was made for photos of some 288 pixels: at 32 its bands mean little by themselves, and only the
          comparison with the held-out images does. --config.extract.descriptor=pixel needs no weights.

A test image that nearly equals a training image (dataset.near_duplicate), as hundreds do (Barz and Denzler 2020), is
left out, and listed in the report.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides for 32x32 images in 10 classes."""
    config = default.get_config()
    config.dataset.update(
        {
            "name": "tfds",
            "path": "cifar10@train",
            "heldout_path": "cifar10@test",
            "heldout_fraction": 0.0,
            "image_size": 32,
        }
    )
    config.target.unet = ConfigDict(
        {
            "block_out_channels": (128, 256, 256, 256),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            "layers_per_block": 2,
            "attention_head_dim": None,
            "downsample_padding": 0,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
            "norm_eps": 1e-6,
            "norm_num_groups": 32,
            "dropout": 0.1,
        }
    )
    # Ho et al. 2020: Adam at 2e-4 after 5,000 steps of warm-up, batch 128, EMA 0.9999; but here the rate decays.
    config.target.train.update(
        {
            "num_steps": 800_000,
            "batch_size": 128,
            "learning_rate": 2e-4,
            "warmup_steps": 5_000,
            "b1": 0.9,
            "weight_decay": 0.0,
        }
    )
    config.classifier.arch = "resnet18_small"  # ResNet34's stem leaves 8x8 of 32x32 pixels
    config.extract.descriptor = "sscd"
    return config
