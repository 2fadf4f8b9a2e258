// The C header alone, included first and twice, as strict C++17.
#include "patchmask.h"
#include "patchmask.h"

#include <cstdio>
#include <type_traits>

static_assert(std::is_same<patchmask_status, ::int32_t>::value, "status is an int32_t");
static_assert(std::is_standard_layout<patchmask_options>::value, "options are plain");
static_assert(std::is_trivially_copyable<patchmask_outputs>::value, "outputs are plain");

int main() {
    patchmask_model* model = nullptr;
    patchmask_model_free(model);
    std::printf("ok header_in_cpp %s\n", patchmask_version());
}
