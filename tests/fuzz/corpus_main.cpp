// SPDX-License-Identifier: Apache-2.0
// Runs every file of a corpus through one fuzz target, then every truncation and many single-bit flips of the small ones.
#include <filesystem>

#include <fmt/format.h>

#include "base/file.hpp"
#include "tests/fuzz/fuzz.hpp"

int main(int argc, char** argv) {
    if (argc != 2) {
        fmt::print(stderr, "usage: {} CORPUS\n", argv[0]);
        return 2;
    }
    std::size_t files = 0, runs = 0;
    const auto run = [&runs](const sev::Bytes& input) {
        LLVMFuzzerTestOneInput(input.data(), input.size());
        ++runs;
    };
    for (const auto& entry : std::filesystem::directory_iterator{argv[1]}) {
        sev::Bytes input = sev::read_file(entry.path(), 16U << 20);
        ++files;
        run(input);
        const std::size_t step = input.size() / 512 + 1;
        for (std::size_t length = 0; length < input.size(); length += step) run({input.begin(), input.begin() + static_cast<std::ptrdiff_t>(length)});
        for (std::size_t bit = 0; bit < 8 * input.size(); bit += 8 * step + 1) {
            input[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
            run(input);
            input[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        }
    }
    fmt::print("{} files, {} runs\n", files, runs);
    return files == 0 ? 1 : 0;
}
