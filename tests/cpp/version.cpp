// A library of another version or ABI is refused: the program's functions come before the library's.
#include "case.hpp"

static const char* version_now = "0.1.0";
static std::uint32_t abi_now = PATCHMASK_ABI_VERSION;

extern "C" const char* patchmask_version(void) { return version_now; }
extern "C" uint32_t patchmask_abi_version(void) { return abi_now; }

static void refused(const std::string& version, std::uint32_t abi) {
    version_now = version.c_str();
    abi_now = abi;
    const std::string named = "patchmask " + version + " (ABI " + std::to_string(abi) + ")";
    CHECK_THROWS(PATCHMASK_UNSUPPORTED, named, patchmask::check_library());
    CHECK_THROWS(PATCHMASK_UNSUPPORTED, named, patchmask::default_options());
    CHECK_THROWS(PATCHMASK_UNSUPPORTED, named, patchmask::model::load("no-such-file"));
    CHECK_THROWS(PATCHMASK_UNSUPPORTED, named, patchmask::model::load_memory(std::string("nothing")));
}

static std::string version_text(unsigned major, unsigned minor) {
    return std::to_string(major) + "." + std::to_string(minor) + ".0";
}

static void other_versions_are_refused() {
    const unsigned major = PATCHMASK_VERSION_MAJOR, minor = PATCHMASK_VERSION_MINOR;
    refused(version_text(major, minor), PATCHMASK_ABI_VERSION + 1);
    refused(version_text(major, minor), 0);
    refused(version_text(major + 1, minor), PATCHMASK_ABI_VERSION);
    if (minor > 0) refused(version_text(major, minor - 1), PATCHMASK_ABI_VERSION);
}

static void newer_minor_of_the_same_abi_is_fine() {
    static const std::string newer = version_text(PATCHMASK_VERSION_MAJOR, PATCHMASK_VERSION_MINOR + 1);
    version_now = newer.c_str();
    abi_now = PATCHMASK_ABI_VERSION;
    CHECK(patchmask::default_options().stride == 7);
}

int main() {
    RUN(other_versions_are_refused);
    RUN(newer_minor_of_the_same_abi_is_fine);
}
