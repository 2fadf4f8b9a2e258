// The header in a second file of the same program, included twice.
#include "patchmask.hpp"
#include "patchmask.hpp"

patchmask::session make_elsewhere(const patchmask::model& model, const patchmask_options& options);
long standard_elsewhere();
void cancels_elsewhere(patchmask::session& session);

// With a callback, so that all of the header is used here too.
patchmask::session make_elsewhere(const patchmask::model& model, const patchmask_options& options) {
    return patchmask::session(
        model, options, [](double, patchmask::stage) { return true; }, [](patchmask::log_level, std::string_view) {});
}

long standard_elsewhere() { return __cplusplus; }

void cancels_elsewhere(patchmask::session& session) { session.cancel(); }
