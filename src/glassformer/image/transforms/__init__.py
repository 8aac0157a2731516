"""Pictures changed at random, to learn more from them: in tensors, on batches, seeded, with their boxes and masks.

augment = Augmentation((RandomResizedCrop((64, 64)), RandomFlip(), RandAugment(), Mixup(num_classes=10)), seed=0)
batch = augment(PictureBatch(pictures=pictures, labels=labels), step)       # depends on (seed, step) alone
"""

from glassformer.image.transforms.affine import RandomAffine
from glassformer.image.transforms.batch import Compose, OneOf, PictureBatch, Transform
from glassformer.image.transforms.colour import ColourJitter
from glassformer.image.transforms.erasing import RandomErasing
from glassformer.image.transforms.mixing import CutMix, Mixup
from glassformer.image.transforms.randaugment import RandAugment
from glassformer.image.transforms.windows import CentreCrop, RandomCrop, RandomFlip, RandomResizedCrop, Resize

__all__ = [
    "CentreCrop",
    "ColourJitter",
    "Compose",
    "CutMix",
    "Mixup",
    "OneOf",
    "PictureBatch",
    "RandAugment",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
    "Resize",
    "Transform",
]
