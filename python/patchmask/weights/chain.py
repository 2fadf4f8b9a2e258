"""Builds a vgg.Network step by step and refuses what is no VGG16: the walk that Keras and ONNX share.

    [scaling]  (convolution [bias] [batch norm] ReLU) x 2,2,3,3,3, each block ended by a 2x2 max pool
    [average]  flatten  (dense [bias] ReLU) ...  dense [bias]  [softmax | sigmoid]

A max pool may stand before its ReLU. Nothing else may change places, and nothing is left out: every step of the source
comes here or is one that changes nothing at inference, such as a dropout.
"""

from __future__ import annotations

from typing import Literal, Optional, Sequence

from .vgg import POOL_AFTER, Array, BatchNorm, Layer, Network, WeightsError


class Chain:
    def __init__(self) -> None:
        self.network = Network()
        self.flat = False  # activations are [patches][features]
        self._last: Optional[Layer] = None  # the layer whose sums the last step gave: a bias or norm belongs to it
        self._rectified = True  # the last layer with weights has had its ReLU
        self._pools: set[int] = set()  # how many convolutions were before each max pool
        self._ended: Optional[str] = None  # the name of the softmax or sigmoid

    @property
    def features(self) -> int:
        """Channels, or outputs of the last dense layer."""
        layers = self.network.dense or self.network.convolutions
        return len(layers[-1].weight) if layers else 0

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
        if self.network.dense or self.flat or self.network.global_average:
            raise WeightsError(f"{layer.name}: a convolution after the features are flattened: VGG16 has none there")
        if self._block_is_full():
            raise WeightsError(
                f"{layer.name}: no max pool before it: VGG16 pools after convolutions 2, 4, 7, 10 and 13"
            )
        self._begin(layer)
        self.network.convolutions.append(layer)

    def bias(self, name: str, values: Array) -> None:
        """A step of its own that adds the bias of the layer before it."""
        if self._last is None or self._last.bias is not None or self._last.norm:
            raise WeightsError(
                f"{name}: adds numbers, but not to the sums of a layer that has no bias yet: a VGG16 has no such step"
            )
        self._last.bias = values

    def batch_norm(self, norm: BatchNorm) -> None:
        if self._last is None or self._last.norm or self.network.dense:
            raise WeightsError(
                f"{norm.name}: a batch norm that does not directly follow a convolution (before its ReLU) cannot be "
                "folded"
            )
        self._last.norm = norm

    def relu(self, name: str) -> None:
        if self._ended or not self.network.convolutions:
            raise WeightsError(f"{name}: a ReLU that follows no layer: VGG16 has one after every layer but the last")
        self._last, self._rectified = None, True

    def max_pool(self, name: str, *, size: Sequence[int], stride: Sequence[int], pads_odd_sides: bool) -> None:
        count = len(self.network.convolutions)
        if tuple(size) != (2, 2) or tuple(stride) != (2, 2):
            raise WeightsError(f"{name}: max pool of {tuple(size)} every {tuple(stride)}: VGG16's are 2 x 2 every 2")
        if not self._block_is_full() or self.flat:
            raise WeightsError(f"{name}: a max pool after convolution {count}: VGG16 pools after 2, 4, 7, 10 and 13")
        self._last = None
        self._pools.add(count)
        if pads_odd_sides:
            self.network.uneven_pools = False

    def global_average(self, name: str) -> None:
        self._check_average(name)
        self.network.global_average = True

    def adaptive_average(self, name: str) -> None:
        """torchvision's average pooling to 7 x 7."""
        self._check_average(name)
        self.network.adaptive = True

    def flatten(self, name: str, order: Literal["chw", "hwc"]) -> None:
        """order: that of the features as they are flattened."""
        if self._ended or not self.has_features:
            raise WeightsError(f"{name}: features are flattened here: VGG16 does that after its last max pool")
        if not self.flat:
            self.network.flattened, self.flat = order, True

    def dense(self, layer: Layer) -> None:
        if not self.network.dense and not self.has_features:
            raise WeightsError(
                f"{layer.name}: a dense layer after {len(self.network.convolutions)} convolutions and "
                f"{len(self._pools)} max pools: VGG16 has 13 and {len(POOL_AFTER)}"
            )
        if not self.flat:
            raise WeightsError(f"{layer.name}: a dense layer without a flatten before it acts on each position alone")
        self._begin(layer)
        self.network.dense.append(layer)

    def end(self, name: str, kind: Literal["softmax", "sigmoid"]) -> None:
        """The last activation."""
        dense = self.network.dense
        if self._ended or self._rectified or not dense:
            raise WeightsError(f"{name}: a {kind} that does not directly follow the last dense layer")
        if kind == "sigmoid" and len(dense[-1].weight) != 1:
            raise WeightsError(
                f"{name}: a sigmoid over {len(dense[-1].weight)} outputs: classes must exclude each other: one output "
                "with a sigmoid, or a softmax"
            )
        if kind == "softmax" and len(dense[-1].weight) == 1:
            raise WeightsError(f"{name}: a softmax over one output is always 1: one output takes a sigmoid")
        self._last, self._ended = None, name

    def complete(self) -> Network:
        """The network, once all steps have been taken."""
        if self.network.dense and self._rectified:
            raise WeightsError(f"{self.network.dense[-1].name}: a ReLU after the last layer cuts off negative logits")
        return self.network

    def unknown(self, name: str, kind: str) -> WeightsError:
        """The error for a layer that no VGG16 has."""
        return WeightsError(
            f"{name}: {kind}: no part of a VGG16: expected 3x3 convolutions, batch norm, ReLU, 2x2 max pools, flatten, "
            "dense"
        )

    def _begin(self, layer: Layer) -> None:
        if self._ended:
            raise WeightsError(f"{layer.name}: follows {self._ended}, which must be the last")
        if not self._rectified:
            raise WeightsError(
                f"{layer.name}: no ReLU between it and the layer before: VGG16 has one after every layer but the last"
            )
        self._last, self._rectified = layer, False

    def _check_average(self, name: str) -> None:
        network = self.network
        before = len(self._pools) != len(POOL_AFTER) or not self._rectified
        if before or self.flat or network.global_average or network.adaptive:
            raise WeightsError(f"{name}: an average of the features: only one, after the last pool and ReLU, converts")

    def _block_is_full(self) -> bool:
        count = len(self.network.convolutions)
        return count - 1 in POOL_AFTER and count not in self._pools
