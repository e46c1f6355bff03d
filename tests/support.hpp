// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdlib>
#include <filesystem>
#include <optional>

#include <unistd.h>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"

namespace sev::test {

/// The project's own fixtures; tests run in the source root.
inline Path fixture(std::string_view name) { return Path{"tests/fixtures"} / name; }

/// A file of the shared test vectors (environment SEV_VECTORS, default ../shared/spec/vectors), or nothing, said aloud, when they are absent.
inline std::optional<Path> vector_file(std::string_view name) {
    const char* from = std::getenv("SEV_VECTORS");
    Path path = Path{from ? from : "../shared/spec/vectors"} / name;
    if (std::filesystem::exists(path)) return path;
    fmt::print("SKIPPED: test vector {} is absent (set SEV_VECTORS)\n", path.string());
    return std::nullopt;
}

/// A directory of its own, gone with the object.
class TemporaryDirectory {
public:
    TemporaryDirectory() {
        std::string name = (std::filesystem::temp_directory_path() / "xen-sev-test-XXXXXX").string();
        if (!mkdtemp(name.data())) throw Error{Fault::system, "mkdtemp failed"};
        path_ = name;
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const Path& path() const noexcept { return path_; }
    Path operator/(std::string_view name) const { return path_ / name; }

private:
    Path path_;
};

template <std::size_t Size>
ByteArray<Size> filled(std::uint8_t value) {
    ByteArray<Size> out{};
    out.fill(value);
    return out;
}

} // namespace sev::test
