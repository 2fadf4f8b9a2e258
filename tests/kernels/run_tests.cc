// Runs tests: one line for each; the exit status is 1 if one fails.
//
//     PROGRAM [PART]        only the tests whose names contain PART

#include <chrono>
#include <cstring>

#include "check.h"

static bool passes(const Test& test) {
    const auto began = std::chrono::steady_clock::now();
    std::string problem;
    try {
        test.run();
    } catch (const Failure& failure) {
        problem = failure.what();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    printf("%s %s, %.2f s%s%s\n", problem.empty() ? "ok" : "FAILED", test.name, seconds, problem.empty() ? "" : ": ",
           problem.c_str());
    fflush(stdout);
    return problem.empty();
}

int main(int count, char** arguments) {
    int run = 0, failed = 0;
    for (const Test& test : all_tests()) {
        if (count < 2 || strstr(test.name, arguments[1])) {
            run++;
            failed += !passes(test);
        }
    }
    printf("%d of %d tests passed\n", run - failed, run);
    return run == 0 || failed != 0;
}
