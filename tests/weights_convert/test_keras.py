"""Keras models, on Keras' torch backend, against the library."""

import h5py
import keras
import numpy as np
from keras import layers

from convert_case import EXACT, PATCH, ROUNDED, STRIDE, WIDTHS, ConvertCase, fp16, patches

BLOCKS = ((0, 1), (2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))
METADATA = (f"--stride={STRIDE}", "--window=-160,240")


def convolutions(channels=1, batch_norm=False, side=PATCH):
    """A narrow VGG16 without its head, named as keras.applications names it."""
    model = keras.Sequential([keras.Input((side, side, channels))], name="vgg16")
    for block, members in enumerate(BLOCKS, 1):
        for number, index in enumerate(members, 1):
            name = f"block{block}_conv{number}"
            activation = "linear" if batch_norm else "relu"
            model.add(layers.Conv2D(WIDTHS[index], 3, padding="same", activation=activation, name=name))
            if batch_norm:
                model.add(layers.BatchNormalization(name=f"{name}_norm"))
                model.add(layers.Activation("relu", name=f"{name}_relu"))
        model.add(layers.MaxPooling2D(2, 2, name=f"block{block}_pool"))
    return model


def with_head(base, *head, before=(), side=PATCH, channels=1):
    x = inputs = keras.Input((side, side, channels))
    for layer in (*before, base, *head):
        x = layer(x)
    return randomised(keras.Model(inputs, x))


def randomised(model):
    """Random weights that fp16 holds; statistics of batch norms too."""
    rng = np.random.default_rng(3)
    for variable in model.weights:
        shape = variable.shape
        if len(shape) > 1:
            value = fp16(rng, *shape, fan_in=np.prod(shape[:-1]))
        elif "variance" in variable.path or "gamma" in variable.path:
            value = rng.uniform(0.7, 1.3, shape)
        else:
            value = rng.normal(0, 0.06, shape).astype(np.float16)
        variable.assign(value)
    return model


def dense(width, activation="relu", name=None):
    return layers.Dense(width, activation=activation, name=name)


def run(model, x):
    """Logits [patches][classes] for NCHW patches."""
    return keras.ops.convert_to_numpy(model(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), training=False))


class Keras(ConvertCase):
    def saved(self, model, name):
        path = self.folder / name
        model.save_weights(path) if name.endswith(".weights.h5") else model.save(path)
        return path

    def check(self, model, limit=EXACT, x=None, files=("model.keras", "model.h5"), options=(), expected=None):
        expected = run(model, patches() if x is None else x) if expected is None else expected
        for name in files:
            with self.subTest(name):
                self.converted(self.saved(model, name), *METADATA, *options)
                self.assert_logits(expected, limit)

    def test_flat_model_in_every_format(self):
        base = convolutions()
        head = (layers.Flatten(), dense(11, name="fc1"), dense(2, None, "predictions"))
        model = randomised(keras.Sequential([keras.Input((PATCH, PATCH, 1)), *base.layers, *head]))
        self.check(model)
        self.check(model, files=("model.weights.h5",), options=(f"--patch-size={PATCH}",))

    def test_nested_base_with_a_new_head(self):
        model = with_head(convolutions(), layers.Flatten(), dense(11), layers.Dropout(0.5), dense(9), dense(3, None))
        self.check(model)

    def test_softmax_is_left_out(self):
        model = with_head(convolutions(), layers.Flatten(), dense(11), dense(2, "softmax"))
        model.layers[-1].activation = keras.activations.linear
        expected = run(model, patches())
        model.layers[-1].activation = keras.activations.softmax
        self.check(model, expected=expected)

    def test_one_sigmoid_becomes_two_classes(self):
        model = with_head(convolutions(), layers.Flatten(), dense(1, "sigmoid"))
        model.layers[-1].activation = keras.activations.linear
        one = run(model, patches())
        model.layers[-1].activation = keras.activations.sigmoid
        self.check(model, expected=np.concatenate([0 * one, one], 1))

    def test_batch_norm_is_folded_with_its_own_epsilon(self):
        model = with_head(convolutions(batch_norm=True), layers.Flatten(), dense(2, None))
        self.check(model, 2 * ROUNDED)

    def test_global_average(self):
        model = with_head(convolutions(), layers.GlobalAveragePooling2D(), dense(11), dense(2, None))
        self.check(model, ROUNDED)

    def test_rescaling_inside_the_model(self):
        scaling = layers.Rescaling(1 / 0.4, offset=-0.7)
        self.check(with_head(convolutions(), layers.Flatten(), dense(2, None), before=(scaling,)))

    def test_caffe_preprocessing_of_keras_applications(self):
        model = with_head(convolutions(3), layers.Flatten(), dense(2, None), channels=3)
        pixels = patches(channels=3).transpose(0, 2, 3, 1) * 255
        fed = keras.applications.vgg16.preprocess_input(pixels.copy())
        # Black is black before the preprocessing: outside the slice too.
        self.check(model, x=np.ascontiguousarray(fed.transpose(0, 3, 1, 2)), options=("--preprocess=caffe",))

    def test_the_real_application_has_the_expected_names(self):
        real = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
        expected = [layer.name for layer in convolutions().layers]
        self.assertEqual([layer.name for layer in real.layers][1:], expected)

    def test_keras_2_names_in_h5(self):
        """The files of keras.applications: groups block1_conv1 with block1_conv1_W_1:0."""
        base = convolutions()
        head = (layers.Flatten(), dense(2, None, "predictions"))
        model = randomised(keras.Sequential([keras.Input((PATCH, PATCH, 1)), *base.layers, *head]))
        path = self.folder / "old.h5"
        with h5py.File(path, "w") as file:
            held = [layer for layer in model.layers if layer.weights]
            file.attrs["layer_names"] = [layer.name.encode() for layer in held]
            for layer in held:
                group = file.create_group(layer.name)
                names = [f"{layer.name}_{kind}_1:0" for kind in "Wb"]
                group.attrs["weight_names"] = [name.encode() for name in names]
                for name, value in zip(names, layer.get_weights()):
                    group.create_dataset(name, data=value)
        self.converted(path, *METADATA, f"--patch-size={PATCH}")
        self.assert_logits(run(model, patches()))

    def test_refusals(self):
        base, flat = convolutions, layers.Flatten
        self.refused(self.saved(with_head(base(), flat(), dense(5, "tanh"), dense(2)), "a.keras"), "activation tanh")
        self.refused(self.saved(with_head(base(), flat(), dense(2, "sigmoid")), "b.keras"), "sigmoid over 2 outputs")
        other = with_head(base(), layers.GlobalMaxPooling2D(), dense(2))
        self.refused(self.saved(other, "c.keras"), "GlobalMaxPooling2D")
        self.refused(self.saved(randomised(base()), "d.keras"), "0 dense layers", "include_top=False")
        five = keras.Sequential([keras.Input((64, 64, 1)), layers.Conv2D(4, 5, padding="same", activation="relu")])
        self.refused(self.saved(five, "e.keras"), "1 convolutions", "[4, 1, 5, 5]")
        normal = with_head(base(), flat(), dense(2, None))
        path = self.saved(normal, "f.keras")
        self.refused(path, "[2, 48]", "--patch-size must be 64..=95", options=("--patch-size=128",), status=2)
        path.write_bytes(path.read_bytes()[:5000])
        self.refused(path, "f.keras", "truncated")
