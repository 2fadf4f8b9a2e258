// The shortest useful program in C++17: segments a CT volume and counts its lesion voxels.
//     minimal_cpp MODEL.safetensors [VOLUME.raw WIDTH HEIGHT DEPTH]      int16 HU, x fastest
// Without a volume it makes one: a bright disc in soft tissue.
#include <patchmask.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

// [depth][height][width], HU
static std::vector<std::int16_t> read_volume(const char *path, const patchmask::extents &size)
{
    std::vector<std::int16_t> hu(size.width * size.height * size.depth);
    std::ifstream file(path, std::ios::binary);
    if (!file.read(reinterpret_cast<char *>(hu.data()), static_cast<std::streamsize>(hu.size() * sizeof hu[0]))) {
        throw std::runtime_error(std::string(path) + ": cannot be read, or is shorter than width x height x depth");
    }
    return hu;
}

static std::vector<std::int16_t> make_volume(const patchmask::extents &size)
{
    std::vector<std::int16_t> hu(size.width * size.height * size.depth);
    for (std::size_t i = 0; i < hu.size(); i++) {
        const long x = static_cast<long>(i % size.width) - 40, y = static_cast<long>(i / size.width % size.height) - 30;
        hu[i] = x * x + y * y < 200 ? 120 : 40;
    }
    return hu;
}

int main(int count, char **words)
try {
    if (count != 2 && count != 6) {
        throw std::runtime_error("usage: minimal_cpp MODEL.safetensors [VOLUME.raw WIDTH HEIGHT DEPTH]");
    }
    patchmask::extents size = {96, 80, 2};
    if (count == 6) {
        size = {std::stoull(words[3]), std::stoull(words[4]), std::stoull(words[5])};
    }
    const patchmask::model model = patchmask::model::load(words[1]);
    const patchmask_options options = model.options(); // from the model's metadata
    const std::vector<std::int16_t> hu = count == 6 ? read_volume(words[2], size) : make_volume(size);
    std::vector<std::uint8_t> mask(hu.size());
    patchmask::outputs outputs;
    outputs.mask = mask;

    patchmask::session session(model, options, [](double fraction, patchmask::stage) {
        std::fprintf(stderr, "\r%3.0f %%", 100 * fraction);
        return true; // false cancels, as does an exception
    });
    session.segment(patchmask::volume(hu, size), outputs);
    std::fprintf(stderr, "\n");
    const auto lesion = std::count(mask.begin(), mask.end(), options.lesion_class);
    std::printf("%td of %zu voxels are lesion\n", lesion, mask.size());
} catch (const std::exception &failure) {
    std::fprintf(stderr, "minimal_cpp: %s\n", failure.what());
    return 1;
}
