"""Keras models, on Keras' torch backend, against the library."""

import json

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


def found_name(model, index):
    return model.layers[index].name


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

    def test_other_ways_to_say_the_same(self):
        """ReLU and softmax as layers, pools before their ReLU, no bias, and layers that are idle at inference."""
        base = convolutions().layers
        model = keras.Sequential([keras.Input((PATCH, PATCH, 1)), layers.RandomFlip()], name="spelt_out")
        for layer in base:
            if isinstance(layer, layers.Conv2D):
                first = layer.name == "block1_conv1"
                conv = layers.Conv2D(layer.filters, 3, padding="same", use_bias=not first, name=layer.name)
                pending = [conv, layers.ReLU() if first else layers.Activation("relu")]
                if layer.name.endswith(("1_conv2", "2_conv2", "3_conv3")):
                    pending.insert(1, layers.MaxPooling2D(2))
            for each in pending if isinstance(layer, layers.Conv2D) else ():
                model.add(each)
            if layer.name in ("block4_pool", "block5_pool"):
                model.add(layer)
        model.add(layers.SpatialDropout2D(0.2))
        for layer in (layers.Flatten(), layers.GaussianNoise(1.0), dense(11, None), layers.ReLU(), dense(2, None)):
            model.add(layer)
        expected = run(randomised(model), patches())
        model.add(layers.Softmax())
        self.check(model, expected=expected)

    def test_batch_norm_without_scale_or_centre(self):
        base = convolutions(batch_norm=True).layers
        for index, options in ((1, {"scale": False}), (4, {"center": False, "epsilon": 0.01})):
            base[index] = layers.BatchNormalization(name=base[index].name, **options)
        head = (layers.Flatten(), dense(2, None))
        self.check(randomised(keras.Sequential([keras.Input((PATCH, PATCH, 1)), *base, *head])), 2 * ROUNDED)

    def test_global_average_with_its_axes_kept(self):
        head = (layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten(), dense(2, None))
        self.check(with_head(convolutions(), *head), ROUNDED)

    def test_frozen_base_called_for_inference(self):
        base, inputs = convolutions(batch_norm=True), keras.Input((PATCH, PATCH, 1))
        outputs = dense(2, None)(layers.Flatten()(base(inputs, training=False)))
        self.check(randomised(keras.Model(inputs, outputs)), 2 * ROUNDED)

    def test_weights_alone_with_a_dropout(self):
        head = (layers.Flatten(), dense(11), layers.Dropout(0.5, seed=1), dense(2, None))
        self.check(with_head(convolutions(), *head), files=("model.weights.h5",), options=(f"--patch-size={PATCH}",))

    def test_keras_2_configuration(self):
        model = with_head(convolutions(), layers.Flatten(), dense(11), dense(2, None))
        path = self.saved(model, "model.h5")

        def older(node):
            """Keras 2's lists in place of Keras 3's dicts of arguments."""
            name = node["args"][0]["config"]["keras_history"][0]
            return [[name, 0, 0, node["kwargs"]]]

        def rewrite(change=lambda layers: None):
            config = json.loads(original)
            inside = config["config"]
            for layer in inside["layers"]:
                layer["inbound_nodes"] = [older(node) for node in layer["inbound_nodes"]]
                layer.pop("module", None)
            for key in ("input_layers", "output_layers"):
                inside[key] = [inside[key]]
            config["class_name"] = "Model"
            change(inside["layers"])
            with h5py.File(path, "a") as file:
                file.attrs["model_config"] = json.dumps(config)

        with h5py.File(path, "r") as file:
            original = file.attrs["model_config"]
        rewrite()
        self.converted(path, *METADATA)
        self.assert_logits(run(model, patches()))
        rewrite(lambda found: found.reverse())  # how they are connected counts, not their order
        self.converted(path, *METADATA)
        self.assert_logits(run(model, patches()))
        rewrite(lambda found: found[3]["inbound_nodes"][0][0].__setitem__(3, {"training": True}))
        self.refused(path, found_name(model, 3), "training=True")
        rewrite(lambda found: found[-1]["inbound_nodes"].append(found[-1]["inbound_nodes"][0]))
        self.refused(path, "one chain")
        rewrite(lambda found: found[-1].pop("class_name"))
        self.refused(path, "not understood")

    def test_models_that_are_no_chain(self):
        def refused(build, *texts):
            inputs = keras.Input((PATCH, PATCH, 1))
            self.refused(self.saved(randomised(build(inputs)), "model.keras"), *texts)

        def features(inputs):
            return layers.Flatten()(convolutions()(inputs))

        def two_heads(inputs):
            x = features(inputs)
            return keras.Model(inputs, [dense(2, None)(x), dense(2, None)(x)])

        def heads_one_after_another(inputs):
            first = dense(4)(features(inputs))
            return keras.Model(inputs, [first, dense(2, None)(first)])

        def residual(inputs):
            x = dense(4)(features(inputs))
            return keras.Model(inputs, dense(2, None)(layers.Add()([x, dense(4)(x)])))

        def used_twice(inputs):
            twice = dense(48, name="twice")
            return keras.Model(inputs, dense(2, None)(twice(twice(features(inputs)))))

        def two_inputs(inputs):
            other = keras.Input((4,))
            joined = layers.Concatenate()([features(inputs), other])
            return keras.Model([inputs, other], dense(2, None)(joined))

        def dropout_that_stays(inputs):
            x = layers.Dropout(0.5, name="stays")(features(inputs), training=True)
            return keras.Model(inputs, dense(2, None)(x))

        def operations(inputs):
            return keras.Model(inputs, dense(2, None)(features(inputs)) * 2.0)

        refused(two_heads, "one chain")
        refused(heads_one_after_another, "its last layer")
        refused(residual, "one chain")
        refused(used_twice, "one chain")
        refused(two_inputs, "one chain")
        refused(dropout_that_stays, "stays", "training=True")
        refused(operations, "Multiply", "no part of a VGG16")

    def test_layers_that_are_no_vgg16(self):
        """A layer of the base, by its index, replaced or followed by others."""
        usual = {"padding": "same", "activation": "relu"}
        conv = lambda **options: layers.Conv2D(WIDTHS[1], 3, **{**usual, **options})  # noqa: E731
        after = lambda layer: lambda old: (old, layer)  # noqa: E731
        instead = lambda *new: lambda old: new  # noqa: E731
        for index, change, *texts in (
            (1, instead(conv(dilation_rate=2)), "dilation_rate [2, 2]"),
            (1, instead(conv(groups=2)), "groups 2"),
            (1, instead(conv(padding="valid")), "padding valid"),
            (1, instead(conv(strides=2)), "strides [2, 2]"),
            (1, instead(conv(activation="elu")), "activation elu"),
            (1, instead(conv(activation="relu6")), "activation relu6"),
            (1, instead(conv(activation=keras.layers.LeakyReLU(0.1))), "activation"),
            (1, instead(conv(activation="linear")), "no ReLU between"),
            (1, instead(layers.ZeroPadding2D(), conv(padding="valid")), "ZeroPadding2D"),
            (1, instead(layers.SeparableConv2D(WIDTHS[1], 3, padding="same", activation="relu")), "SeparableConv2D"),
            (1, after(layers.ReLU(6.0)), "limit"),
            (1, after(layers.LeakyReLU()), "LeakyReLU"),
            (1, after(layers.BatchNormalization(name="late")), "late", "batch norm that does not directly follow"),
            (2, after(layers.BatchNormalization(name="later")), "later", "batch norm that does not directly follow"),
            (2, after(layers.Rescaling(2.0)), "scaling after the first convolution"),
            (2, instead(layers.AveragePooling2D(2)), "AveragePooling2D"),
            (2, instead(layers.MaxPooling2D(3, 2)), "(3, 3)"),
            (2, instead(layers.MaxPooling2D(2, 1, padding="same")), "(1, 1)"),
            (1, instead(conv(activation="linear"), layers.BatchNormalization(1), layers.ReLU()), "over channels"),
            (-1, after(layers.Permute((2, 1, 3))), "Permute"),
            (-1, after(layers.Reshape((2, 2, WIDTHS[-1]))), "Reshape"),
            (-1, after(layers.Lambda(lambda x: 2 * x, output_shape=lambda s: s)), "Lambda"),
            (-1, after(layers.GroupNormalization(4)), "GroupNormalization"),
            (-1, after(layers.UnitNormalization()), "UnitNormalization"),
        ):
            members = convolutions().layers
            index %= len(members)
            members[index : index + 1] = change(members[index])
            model = [keras.Input((PATCH, PATCH, 1)), *members, layers.Flatten(), dense(2, None)]
            with self.subTest(texts):
                self.refused(self.saved(randomised(keras.Sequential(model)), "model.keras"), *texts)

    def test_heads_that_are_no_vgg16(self):
        flat = layers.Flatten()
        for head, text in (
            ((dense(4), flat, dense(2, None)), "without a flatten"),
            ((flat, dense(2, "relu")), "cuts off negative logits"),
            ((flat, dense(2, None), layers.Activation("tanh")), "activation tanh"),
            ((flat, dense(2, "softmax"), dense(2, None)), "must be the last"),
            ((flat, dense(4), layers.BatchNormalization(), dense(2, None)), "batch norm"),
            ((flat, dense(4), layers.LayerNormalization(), dense(2, None)), "LayerNormalization"),
            ((flat, dense(1, "softmax")), "softmax over one output"),
            ((layers.GlobalMaxPooling2D(), dense(2, None)), "GlobalMaxPooling2D"),
            ((layers.AveragePooling2D(2), flat, dense(2, None)), "AveragePooling2D"),
            ((flat, dense(4, "softmax"), layers.ReLU(), dense(2, None)), "ReLU that follows"),
        ):
            with self.subTest(text):
                model = keras.Sequential([keras.Input((PATCH, PATCH, 1)), *convolutions().layers, *head])
                self.refused(self.saved(randomised(model), "model.keras"), text)
        oblong = keras.Sequential([keras.Input((64, 96, 1)), *convolutions().layers, layers.Flatten(), dense(2, None)])
        self.refused(self.saved(randomised(oblong), "model.keras"), "64 x 96 pixels", "equal sides")

    def test_classes_of_other_packages(self):
        @keras.saving.register_keras_serializable("mine")
        class Conv2D(layers.Conv2D):
            def call(self, x):
                return 2 * super().call(x)

        members = convolutions().layers
        members[1] = Conv2D(WIDTHS[1], 3, padding="same", activation="relu", name="mine")
        model = keras.Sequential([keras.Input((PATCH, PATCH, 1)), *members, layers.Flatten(), dense(2, None)])
        self.refused(self.saved(randomised(model), "model.keras"), "mine", "no part of a VGG16")

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
