"""C3D, from figure 3 and section 3.2 of Tran et al. 2015, and the fillers of its authors' published definition."""

from typing import NamedTuple

from torch import Tensor, nn


class Layer(NamedTuple):
    """A layer with its fillers in facebookarchive/C3D, examples/c3d_finetuning/c3d_ucf101_finetuning_train.prototxt."""

    outputs: int
    std: float  # weight_filler { type: "gaussian" }
    bias: float  # bias_filler { type: "constant" }
    pool: tuple[int, int, int] | None = None  # size and stride of the max pooling after it


CONVOLUTIONS = {
    "conv1a": Layer(64, 0.01, 0, pool=(1, 2, 2)),
    "conv2a": Layer(128, 0.01, 1, pool=(2, 2, 2)),
    "conv3a": Layer(256, 0.01, 1),
    "conv3b": Layer(256, 0.01, 1, pool=(2, 2, 2)),
    "conv4a": Layer(512, 0.01, 1),
    "conv4b": Layer(512, 0.01, 1, pool=(2, 2, 2)),
    "conv5a": Layer(512, 0.01, 1),
    "conv5b": Layer(512, 0.01, 1, pool=(2, 2, 2)),
}
CONNECTED = {"fc6": Layer(4096, 0.005, 1), "fc7": Layer(4096, 0.005, 1), "fc8": Layer(487, 0.01, 0)}
FILLERS = CONVOLUTIONS | CONNECTED


class C3D(nn.Module):
    """For clips of 3 × 16 × 112 × 112; all convolutions 3 × 3 × 3 with padding and stride 1; 487 classes of Sports-1M.

    thinner: divides every number of channels but the first and the last, for tests that run it.
    """

    def __init__(self, thinner: int = 1) -> None:
        super().__init__()
        channels = 3
        for name, layer in CONVOLUTIONS.items():
            setattr(self, name, nn.Conv3d(channels, layer.outputs // thinner, 3, padding=1))
            channels = layer.outputs // thinner
        features = channels * 4 * 4  # 1 × 4 × 4: the last pooling pads 7 × 7, as Caffe's rounds up
        for name, layer in CONNECTED.items():
            outputs = layer.outputs if name == "fc8" else layer.outputs // thinner
            setattr(self, name, nn.Linear(features, outputs))
            features = outputs

    def forward(self, clips: Tensor) -> Tensor:
        x = clips
        for name, layer in CONVOLUTIONS.items():
            x = getattr(self, name)(x).relu()
            if layer.pool is not None:
                x = nn.functional.max_pool3d(x, layer.pool, ceil_mode=name == "conv5b")
        x = x.flatten(1)
        for name in CONNECTED:
            x = getattr(self, name)(x)
            x = x if name == "fc8" else x.relu()
        return x
