"""VGG16 with modified dense layers: 13 3x3 convolutions padded by one zero, five max pools, dropout 0.5.

The order of the layers is VGG16's; the widths are free. The network trains with batch normalisation after every
convolution (unless told not to), because thirteen layers from scratch hardly start without it. `folded` then multiplies
it into the convolutions, so what is exported is the plain VGG16 with torchvision's names (features.0, features.2 ...).
"""

import torch
from torch import nn
from torch.nn import functional

CONVOLUTIONS_PER_BLOCK = (2, 2, 3, 3, 3)
DENSE_STEP = 8  # pixels between the patches of a crop that is evaluated at once
FULL_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


class Vgg16(nn.Module):
    def __init__(self, patch_size, widths, dense, classes=2, dropout=0.5, batch_norm=True):
        """widths: 13 channel counts. dense: widths of the hidden dense layers. One grey input channel."""
        super().__init__()
        if len(widths) != 13:
            raise ValueError(f"{len(widths)} widths: VGG16 has 13 convolutions")
        side = patch_size // 2 ** len(CONVOLUTIONS_PER_BLOCK)
        if side < 1:
            raise ValueError(f"patch size {patch_size}: five pools need at least 32 pixels")
        self.config = dict(patch_size=patch_size, widths=list(widths), dense=list(dense), classes=classes)

        layers, channels, remaining = [], 1, list(widths)
        for convolutions in CONVOLUTIONS_PER_BLOCK:
            for _ in range(convolutions):
                width = remaining.pop(0)
                layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not batch_norm))
                layers += [nn.BatchNorm2d(width)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)

        layers, inputs = [], channels * side * side
        for width in dense:
            layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            inputs = width
        self.classifier = nn.Sequential(*layers, nn.Linear(inputs, classes))

        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.classifier[-1].weight, std=0.01)

    def forward(self, patches):
        """[patches][1][P][P] -> logits [patches][classes]; larger crops as `dense` does."""
        if patches.shape[-1] != self.config["patch_size"]:
            return self.dense(patches)
        return self.classifier(torch.flatten(self.features(patches), 1))  # C x g x g in CHW order

    def dense(self, crops):
        """[crops][1][S][S] -> logits [crops][classes][n][n] of all patches that start every DENSE_STEP pixels.

        Three pools shrink as usual; after that every position is kept and taps lie 2, 4 ... positions apart ("a trous":
        Sermanet et al., "OverFeat", 2014, section 3.3; Yu and Koltun, 2016). A tap that leaves its patch sees the crop,
        where a patch by itself has zeros: the library's padding "image", much cheaper per label and nearly the same.
        """
        x, apart, pools = crops, 1, 0
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                x = functional.conv2d(x, layer.weight, layer.bias, padding=apart, dilation=apart)
            elif isinstance(layer, nn.MaxPool2d):
                pools += 1
                kept = 2**pools > DENSE_STEP
                x = functional.max_pool2d(x, 2, stride=1 if kept else 2, dilation=apart)
                apart *= 2 if kept else 1
            else:
                x = layer(x)
        first, *others = self.classifier
        side = self.config["patch_size"] // 2**pools
        x = functional.conv2d(x, first.weight.unflatten(1, (-1, side, side)), first.bias, dilation=apart)
        x = x.movedim(1, -1)
        for layer in others:
            x = layer(x)
        return x.movedim(-1, 1)


def blocks(model):
    """The layers between pools, as five Sequentials that share them."""
    layers, ends = list(model.features), [k for k, layer in enumerate(model.features) if isinstance(layer, nn.MaxPool2d)]
    return [nn.Sequential(*layers[first:end]) for first, end in zip([0, *ends], ends)]


@torch.no_grad()
def folded(model):
    """The same function (in evaluation mode) without batch normalisation, computed in float64."""
    plain = Vgg16(**model.config, batch_norm=False)
    if not any(isinstance(layer, (nn.BatchNorm2d, nn.SyncBatchNorm)) for layer in model.features):
        plain.load_state_dict(model.state_dict())
        return plain.eval()
    targets = iter(layer for layer in plain.features if isinstance(layer, nn.Conv2d))
    layers = list(model.features)
    for convolution, norm in zip(layers, layers[1:]):
        if not isinstance(convolution, nn.Conv2d):
            continue
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        target = next(targets)
        target.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
        target.bias.copy_(norm.bias.double() - norm.running_mean.double() * scale)
    plain.classifier.load_state_dict(model.classifier.state_dict())
    return plain.eval()


@torch.no_grad()
def unfolded(plain, patches, dropout=0.5):
    """A plain network with batch normalisation put back so that it still computes the same: to go on training.

    patches: normalised [n][1][P][P]; their statistics become the running ones.
    """
    model = Vgg16(**plain.config, dropout=dropout)
    model.classifier.load_state_dict(plain.classifier.state_dict())
    convolutions = iter(layer for layer in plain.features if isinstance(layer, nn.Conv2d))
    x, layers = patches, list(model.features)
    for layer, following in zip(layers, layers[1:] + [None]):
        if isinstance(layer, nn.Conv2d):
            source = next(convolutions)
            layer.weight.copy_(source.weight)
            y = layer(x)
            variance, mean = torch.var_mean(y, (0, 2, 3))
            following.running_mean.copy_(mean)
            following.running_var.copy_(variance)
            following.weight.copy_(torch.sqrt(variance + following.eps))
            following.bias.copy_(mean + source.bias)
        x = layer.eval()(x)
    return model
