// scores: the last sums, softmax, and where it goes.

#include <cmath>

#include "launching.h"
#include "random.h"

namespace {

constexpr int LAYER = 16;

struct Scores {
    Scores(int patches, int classes, Random& random)
        : patches(patches),
          classes(classes),
          padded_classes((classes + CHANNEL_GRAIN - 1) / CHANNEL_GRAIN * CHANNEL_GRAIN),
          grid(2 * patches + 3),
          sums{random.logits(size_t(patches) * padded_classes), random.logits(size_t(patches) * padded_classes)},
          bias(random.logits(size_t(classes))) {
        for (int i = 0; i < patches; i++) places.push_back(i * 2 + int32_t(random.below(2)));
    }

    void run() {
        std::vector<float> splits = sums[0];
        splits.insert(splits.end(), sums[1].begin(), sums[1].end());
        ScoresParams p{};
        p.sums = launch.upload(splits);
        p.bias = launch.upload(bias);
        p.grid_indices = launch.upload(places);
        p.logits = logits.data();
        p.probabilities = probabilities.data();
        p.patches = patches;
        p.classes = classes;
        p.padded_classes = padded_classes;
        p.splits = 2;
        p.layer = LAYER;
        launch.run("scores", p, {divide_up(size_t(patches), SCORES_THREADS), 1, 1}, SCORES_THREADS, 0);
        logits.check_guards("logits");
        probabilities.check_guards("probabilities");
    }

    float logit(int patch, int i) const {
        const size_t at = size_t(patch) * padded_classes + i;
        return sums[0][at] + sums[1][at] + bias[size_t(i)];
    }

    const int patches, classes, padded_classes, grid;
    std::vector<float> sums[2];  // [patches][padded_classes]
    std::vector<float> bias;
    std::vector<int32_t> places;
    DeviceBuffer<float> logits{size_t(grid) * classes}, probabilities{size_t(grid) * classes};
    Launch launch;
};

}  // namespace

// Within 2^-20 of the softmax in double: two exponentials and a quotient of 2^-23 each, sums of up to 255 terms.
TEST(scores_softmax) {
    for (const int classes : {2, 3, 17, 255}) {
        Random random(static_cast<uint64_t>(classes));
        Scores scores(130, classes, random);
        scores.run();
        std::vector<bool> written(size_t(scores.grid), false);
        for (int patch = 0; patch < scores.patches; patch++) {
            const size_t place = size_t(scores.places[size_t(patch)]);
            written[place] = true;
            double sum = 0;
            for (int i = 0; i < classes; i++) sum += std::exp(double(scores.logit(patch, i)));
            for (int i = 0; i < classes; i++) {
                const double want = std::exp(double(scores.logit(patch, i))) / sum;
                const float have = scores.probabilities[place * classes + i];
                const bool right = std::fabs(have - want) <= std::ldexp(1.0, -20);
                if (!right || scores.logits[place * classes + i] != scores.logit(patch, i))
                    fail("%d classes, patch %d, class %d: %g instead of %g", classes, patch, i, have, want);
            }
        }
        for (size_t place = 0; place < written.size(); place++)
            if (!written[place] && !scores.logits.untouched(place * classes))
                fail("patch %zu is not in the subtile, but stored", place);
        check_equal(scores.launch.overflow[0], 0, "overflow");
    }
    for (const float strange : {INFINITY, -INFINITY, NAN}) {
        Random random(1);
        Scores scores(130, 3, random);
        scores.sums[1][129 * 16 + 2] = strange;
        scores.run();
        check_equal(scores.launch.overflow[0], 1u << LAYER, "overflow");
        // Padding does not count.
        Scores padding(130, 3, random);
        padding.sums[1][129 * 16 + 3] = strange;
        padding.run();
        check_equal(padding.launch.overflow[0], 0, "overflow of padding");
    }
}
