"""The comparison of the ConvMixer paper (arXiv 2201.09792, Table 1).

Accuracies of ConvMixer are those of the authors' repository. The other figures
are quoted from texts about the paper: see `QUOTED`. Its throughput is on one
RTX 8000 with 64 images in float16. The paper's authors trained the ResNet-152
themselves, with ConvMixer's recipe; weights of it were not released.
"""

from typing import NamedTuple

QUOTED = (
  "The paper's figures are quoted: its images/s are on one RTX 8000, 64 images "
  'in float16. Its ResNet-152 was trained by its authors, with the recipe of '
  'ConvMixer; the other two are from their own papers.'
)


class PaperRow(NamedTuple):
  """A row of the paper's table.

  Attributes:
    name: of the network in the paper.
    top1: accuracy on ImageNet's validation images, in per cent.
    images_per_sec: of inference.
    epochs: of training.
  """

  name: str
  top1: float
  images_per_sec: float
  epochs: int


# In the paper's order, by variant.
PAPER = {
  '1536_20': PaperRow('ConvMixer-1536/20', 81.37, 134, 150),
  '768_32': PaperRow('ConvMixer-768/32', 80.16, 206, 300),
  'resnet152': PaperRow('ResNet-152', 79.64, 828, 150),
  'deit_b': PaperRow('DeiT-B', 81.8, 792, 300),
  'resmlp_b24_8': PaperRow('ResMLP-B24/8', 81.0, 181, 400),
}
