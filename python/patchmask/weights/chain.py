"""Builds a vgg.Network layer by layer and refuses what is no VGG16: the walk that Keras and ONNX share.

    [scaling]  (convolution [batch norm] ReLU) x 2,2,3,3,3, each block ended by a 2x2 max pool
    [average]  flatten  (dense ReLU) ...  dense  [softmax | sigmoid]
"""

from __future__ import annotations

from typing import Literal, Optional, Sequence

from .vgg import POOL_AFTER, BatchNorm, Layer, Network, WeightsError


class Chain:
    def __init__(self) -> None:
        self.network = Network()
        self._rectified = True  # the last layer with weights has had its ReLU
        self._pools: set[int] = set()  # how many convolutions were before each max pool
        self._ended: Optional[str] = None  # the name of the softmax or sigmoid

    @property
    def has_features(self) -> bool:
        """The last pool has been reached."""
        return len(self._pools) == len(POOL_AFTER)

    def scaling(self, name: str, scale: float, offset: float) -> None:
        """scale * x + offset, numbers, before the first convolution."""
        network = self.network
        if network.convolutions:
            raise WeightsError(f"{name}: scaling after the first convolution: a VGG16 has none there")
        if not scale > 0:
            raise WeightsError(f"{name}: scale {scale}: must be above 0")
        network.scale, network.offset = network.scale * scale, network.offset * scale + offset

    def convolution(self, layer: Layer) -> None:
        self._begin(layer.name)
        if self.network.dense:
            raise WeightsError(f"{layer.name}: a convolution after a dense layer: VGG16 has none there")
        if self._block_is_full():
            raise WeightsError(
                f"{layer.name}: no max pool before it: VGG16 pools after convolutions 2, 4, 7, 10 and 13"
            )
        self.network.convolutions.append(layer)

    def batch_norm(self, norm: BatchNorm) -> None:
        layers = self.network.convolutions
        if self._rectified or not layers or layers[-1].norm or self.network.dense:
            raise WeightsError(
                f"{norm.name}: a batch norm that does not directly follow a convolution (before its ReLU) cannot be "
                "folded"
            )
        layers[-1].norm = norm

    def relu(self) -> None:
        self._rectified = True

    def max_pool(self, name: str, *, size: Sequence[int], stride: Sequence[int], pads_odd_sides: bool) -> None:
        count = len(self.network.convolutions)
        if tuple(size) != (2, 2) or tuple(stride) != (2, 2):
            raise WeightsError(f"{name}: max pool of {tuple(size)} every {tuple(stride)}: VGG16's are 2 x 2 every 2")
        if not self._block_is_full():
            raise WeightsError(f"{name}: a max pool after convolution {count}: VGG16 pools after 2, 4, 7, 10 and 13")
        self._pools.add(count)
        if pads_odd_sides:
            self.network.uneven_pools = False

    def global_average(self, name: str) -> None:
        if not self.has_features:
            raise WeightsError(f"{name}: a global average before VGG16's last pool cannot be converted")
        self.network.global_average = True

    def flatten(self, order: Literal["chw", "hwc"]) -> None:
        """order: that of the features as they are flattened."""
        if not self.network.dense:
            self.network.flattened = order

    def dense(self, layer: Layer) -> None:
        self._begin(layer.name)
        if not self.network.dense and not self.has_features:
            raise WeightsError(
                f"{layer.name}: a dense layer after {len(self.network.convolutions)} convolutions and "
                f"{len(self._pools)} max pools: VGG16 has 13 and {len(POOL_AFTER)}"
            )
        self.network.dense.append(layer)

    def end(self, name: str, kind: Literal["softmax", "sigmoid"]) -> None:
        """The last activation."""
        dense = self.network.dense
        if kind == "sigmoid" and dense and len(dense[-1].weight) != 1:
            raise WeightsError(
                f"{name}: a sigmoid over {len(dense[-1].weight)} outputs: classes must exclude each other: one output "
                "with a sigmoid, or a softmax"
            )
        self._ended = name

    def unknown(self, name: str, kind: str) -> WeightsError:
        """The error for a layer that no VGG16 has."""
        return WeightsError(
            f"{name}: {kind}: no part of a VGG16: expected 3x3 convolutions, batch norm, ReLU, 2x2 max pools, flatten, "
            "dense"
        )

    def _begin(self, name: str) -> None:
        if self._ended:
            raise WeightsError(f"{name}: follows {self._ended}, which must be the last")
        if not self._rectified:
            raise WeightsError(f"{name}: no ReLU between it and the layer before: VGG16 has one after every layer")
        self._rectified = False

    def _block_is_full(self) -> bool:
        count = len(self.network.convolutions)
        return count - 1 in POOL_AFTER and count not in self._pools
