#include "modules.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "world.h"

namespace fake_driver {
namespace {

// The number after `key` in text, or 0.
int number_after(const std::string& text, const char* key) {
    const size_t at = text.find(key);
    return at == std::string::npos ? 0 : atoi(text.c_str() + at + strlen(key));
}

}  // namespace

bool read_ptx(const char* image, Ptx& ptx) {
    const std::string text = image;
    int major = 0;
    int minor = 0;
    const size_t version = text.find(".version");
    if (version == std::string::npos || text.find(".target") == std::string::npos ||
        sscanf(text.c_str() + version, ".version %d.%d", &major, &minor) != 2) {
        return false;
    }
    ptx.version = 10 * major + minor;
    ptx.target = number_after(text, "sm_");
    const size_t target = text.find("sm_");
    const size_t target_end = text.find_first_not_of("0123456789", target + 3);
    ptx.only = target_end != std::string::npos && text[target_end] == 'a';
    // .entry name( .param .align 8 .b8 name_param_0[120] ) .maxntid 128, 1, 1 {
    const std::string key = ".entry";
    for (size_t at = text.find(key); at != std::string::npos; at = text.find(key, at + 1)) {
        const size_t name = text.find_first_not_of(" \t\n", at + key.size());
        const size_t name_end = text.find_first_of(" \t\n(", name);
        const size_t body = text.find('{', at);
        if (name_end == std::string::npos || body == std::string::npos) return false;
        const std::string head = text.substr(name_end, body - name_end);
        Entry entry;
        entry.name = text.substr(name, name_end - name);
        entry.params_bytes = static_cast<size_t>(number_after(head, "["));
        entry.max_threads = static_cast<unsigned>(number_after(head, ".maxntid"));
        const std::string code = text.substr(body, text.find("\n}", body) - body);
        entry.traps = code.find("trap;") != std::string::npos;
        ptx.entries.push_back(entry);
    }
    return true;
}

std::string complaint(const Launch& launch, const Context& context) {
    for (size_t at = 0; at + sizeof(uintptr_t) <= launch.params.size(); at += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, launch.params.data() + at, sizeof word);
        const int owner = Memory::owner(word);
        // A small number, of either sign, above which padding holds half of some old pointer?
        const uint32_t low = static_cast<uint32_t>(word);
        if (owner == PAGEABLE || low < FIRST_OFFSET || low > UINT32_MAX - FIRST_OFFSET) continue;  // no pointer
        const int wanted = owner == PINNED ? PINNED : context.device;
        const std::string text = world().memory.complaint(wanted, reinterpret_cast<void*>(word), 1);
        if (!text.empty()) return launch.name + ": parameter at byte " + std::to_string(at) + ": " + text;
    }
    return "";
}

void run(const Launch& launch, Context& context) {
    Device& device = world().devices[context.device];
    if (device.runs_left == 0) {
        device.lost = true;
        return;
    }
    --device.runs_left;
    ++world().kernel_runs;
    std::string text = complaint(launch, context);
    const Fault fault = launch.kernel == nullptr ? Fault::Traps : world().faults.of(launch.name);
    if (fault == Fault::Traps) {
        device.lost = true;
        return;
    }
    if (fault == Fault::Hangs) {
        context.hangs = true;
        return;
    }
    if (text.empty() && fault != Fault::Wrong) {
        text = sim::launch(launch.grid, launch.block, launch.shared_bytes,
                           [&] { launch.kernel->run(launch.params.data()); });
        text = text.empty() ? text : launch.name + ": " + text;
    }
    for (const int owner : {context.device, PINNED}) {
        if (text.empty()) {
            text = world().memory.damage(owner);
            text = text.empty() ? text : "found after " + launch.name + ": " + text;
        }
    }
    if (!text.empty()) context.fail(CUDA_ERROR_ILLEGAL_ADDRESS, text);
}

}  // namespace fake_driver
