// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <time.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

namespace sev::bench {

/// Times of one thing done many times; the median is what counts.
class Samples {
public:
    /// Runs body and keeps how long it took.
    template <class Body>
    void time(Body&& body) {
        const auto begin = std::chrono::steady_clock::now();
        std::forward<Body>(body)();
        seconds_.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    /// Same by this thread's processor time: for what only computes, so that waiting for a busy processor does not count.
    template <class Body>
    void time_computing(Body&& body) {
        const double begin = thread_seconds();
        std::forward<Body>(body)();
        seconds_.push_back(thread_seconds() - begin);
    }
    std::size_t count() const noexcept { return seconds_.size(); }
    double median_seconds() const { return median(seconds_); }
    /// Median of the rounds' ratios other/this: what was timed in turns saw the same machine, whatever else that did meanwhile.
    double median_speedup_over(const Samples& other) const {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < std::min(count(), other.count()); ++i) ratios.push_back(other.seconds_[i] / seconds_[i]);
        return median(std::move(ratios));
    }

private:
    static double thread_seconds() {
        timespec now{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
    }
    static double median(std::vector<double> values) {
        const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
        std::nth_element(values.begin(), middle, values.end());
        return *middle;
    }
    std::vector<double> seconds_;
};

/// One line: processor, number of hardware threads, compiler, whether it optimised.
inline void print_machine() {
    std::string model = "unknown processor", line;
    std::ifstream cpuinfo{"/proc/cpuinfo"};
    while (std::getline(cpuinfo, line)) {
        if (line.starts_with("model name")) {
            model = line.substr(std::min(line.find(':') + 2, line.size()));
            break;
        }
    }
#ifdef __clang__
    constexpr const char* compiler = "Clang " __clang_version__;
#else
    constexpr const char* compiler = "GCC " __VERSION__;
#endif
#ifdef __OPTIMIZE__
    constexpr const char* optimised = "optimised";
#else
    constexpr const char* optimised = "NOT optimised";
#endif
    fmt::print("machine: {}, {} threads; compiler: {}, {}\n", model, std::thread::hardware_concurrency(), compiler, optimised);
}

} // namespace sev::bench
