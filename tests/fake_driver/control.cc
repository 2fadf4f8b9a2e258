// Settings from the environment, the report at the end, and what control.h promises.

#include "control.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "world.h"

using namespace fake_driver;

namespace {

[[noreturn]] void refuse(const std::string& setting) {
    fprintf(stderr, "PATCHMASK_FAKE_DRIVER: cannot read '%s'\n", setting.c_str());
    _Exit(97);
}

// "a:b:c" in parts.
std::vector<std::string> parts_of(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
    return parts;
}

uint64_t number(const std::string& text, const std::string& setting) {
    char* end = nullptr;
    const uint64_t value = strtoull(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0') refuse(setting);
    return value;
}

// Settings of a program that cannot call the functions below.
__attribute__((constructor)) void read_environment() {
    world().reset();
    const char* const text = getenv("PATCHMASK_FAKE_DRIVER");
    if (text == nullptr) return;
    Settings& settings = world().settings;
    uint64_t completion = 2;
    uint64_t seed = 1;
    for (const std::string& setting : parts_of(text, ',')) {
        const size_t equals = setting.find('=');
        if (equals == std::string::npos) refuse(setting);
        const std::string key = setting.substr(0, equals);
        const std::vector<std::string> values = parts_of(setting.substr(equals + 1), ':');
        const size_t wanted = key == "fail" ? 3 : key == "lose" || key == "spoil" ? 2 : 1;
        if (values.size() != wanted) refuse(setting);
        if (key == "report") {
            world().report_path = values[0];
            continue;
        }
        const uint64_t last = number(values.back(), setting);
        if (key == "devices" && last <= MAX_DEVICES) {
            settings.devices = static_cast<int>(last);
        } else if (key == "sm") {
            settings.major = static_cast<int>(last / 10);
            settings.minor = static_cast<int>(last % 10);
        } else if (key == "memory") {
            settings.memory_bytes = last;
        } else if (key == "optin") {
            settings.shared_optin_bytes = last;
        } else if (key == "driver") {
            settings.driver_version = static_cast<int>(last);
        } else if (key == "init") {
            settings.init_result = static_cast<CUresult>(last);
        } else if (key == "fail") {
            world().faults.fail(values[0], number(values[1], setting), static_cast<CUresult>(last));
        } else if (key == "spoil" && last <= 4) {
            world().faults.spoil(values[0], static_cast<Fault>(last));
        } else if (key == "lose" && number(values[0], setting) < MAX_DEVICES) {
            world().devices[number(values[0], setting)].runs_left = last;
        } else if (key == "completion" && last <= 2) {
            completion = last;
        } else if (key == "seed") {
            seed = last;
        } else {
            refuse(setting);
        }
    }
    world().set_completion(static_cast<int>(completion), seed);
}

// When the program ends.
__attribute__((destructor)) void write_report() {
    const std::string& path = world().report_path;
    if (path.empty()) return;
    if (FILE* file = fopen(path.c_str(), "w")) {
        for (const char* kind :
             {"context", "allocation", "bytes", "host", "stream", "event", "module", "graph", "exec"}) {
            fprintf(file, "%s %llu\n", kind, static_cast<unsigned long long>(fake_driver_live(kind)));
        }
        fprintf(file, "runs %llu\n", static_cast<unsigned long long>(fake_driver_kernel_runs()));
        fprintf(file, "error %s\n", fake_driver_error());
        fclose(file);
    }
}

}  // namespace

uint64_t fake_driver_reset(void) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    world().reset();
    return world().live("");
}

void fake_driver_devices(int count, int major, int minor, uint64_t memory_bytes, uint64_t shared_optin_bytes) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    Settings& settings = world().settings;
    settings.devices = std::min(std::max(count, 0), MAX_DEVICES);
    settings.major = major;
    settings.minor = minor;
    settings.memory_bytes = memory_bytes;
    settings.shared_optin_bytes = shared_optin_bytes;
}

void fake_driver_driver_version(int version) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    world().settings.driver_version = version;
}

void fake_driver_init_error(int cuda_error) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    world().settings.init_result = static_cast<CUresult>(cuda_error);
}

void fake_driver_fail(const char* call, uint64_t nth, int cuda_error) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    world().faults.fail(call, nth, static_cast<CUresult>(cuda_error));
}

void fake_driver_spoil(const char* kernel, int fault) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    world().faults.spoil(kernel, static_cast<Fault>(fault));
}

void fake_driver_lose_device(int device, uint64_t after_launches) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    if (device >= 0 && device < MAX_DEVICES) {
        world().devices[device].runs_left = after_launches;
        world().devices[device].lost = after_launches == 0;
    }
}

void fake_driver_completion(int mode, uint64_t seed) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    world().set_completion(std::min(std::max(mode, 0), 2), seed);
}

uint64_t fake_driver_calls(const char* call) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    return world().faults.made(call);
}

uint64_t fake_driver_live(const char* kind) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    return world().live(kind);
}

uint64_t fake_driver_kernel_runs(void) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    return world().kernel_runs;
}

const char* fake_driver_error(void) {
    static std::string& text = *new std::string;  // outlives everything, for the report
    const std::lock_guard<Turnstile> turn(world().turnstile);
    if (const std::string damage = world().memory.damage(); !damage.empty()) world().problem(damage);
    text = world().first_problem();
    return text.c_str();
}
