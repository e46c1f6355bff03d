// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdio>
#include <map>

#include <zlib.h>

#include "base/crypto.hpp"
#include "base/json.hpp"
#include "ovmf-measure/xen/predict.hpp"
#include "tests/support.hpp"

namespace sev::test {

/// What a command prints, and its exit status.
struct Ran {
    std::string out;
    int status;
};
inline Ran run(const std::string& command) {
    Ran result{.out = {}, .status = -1};
    std::FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return result;
    std::array<char, 65536> part{};
    for (std::size_t got; (got = std::fread(part.data(), 1, part.size(), pipe)) > 0;) result.out.append(part.data(), got);
    const int status = pclose(pipe);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return result;
}

/// The ACPI pages that this machine's libxenlight makes (tests/fixtures/xen/libxl_acpi.py), or nothing, said aloud, when it has none. `before`: PVH
/// builds before in that process.
inline std::optional<measure::AcpiReference> libxl_acpi(unsigned vcpus, unsigned online, unsigned before = 0) {
    static std::map<std::array<unsigned, 3>, std::optional<measure::AcpiReference>> known;
    const auto [at, is_new] = known.try_emplace({vcpus, online, before});
    const auto skipped = [] {
        fmt::print("SKIPPED: no libxenlight 4.17 on this machine\n");
        return std::nullopt;
    };
    if (!is_new) return at->second ? at->second : skipped();
    std::string list;
    for (unsigned i = 0; i < online; ++i) list += fmt::format("{}{}", i == 0 ? "" : ",", i);
    const Ran made = run(fmt::format("python3 tests/fixtures/xen/libxl_acpi.py --vcpus {} --online {} --before {}", vcpus, list, before));
    if (made.status == 77) return skipped();
    REQUIRE(made.status == 0);
    at->second = measure::AcpiReference::from_json(json::parse(made.out, "libxl_acpi.py"), "libxl_acpi.py");
    return at->second;
}

/// A file that tests/fixtures/xen/debian_files.py fetched (XEN_SEV_DEBIAN_FILES, default build/xen-files), or nothing, said aloud.
inline std::optional<Path> debian_file(std::string_view name) {
    const char* from = std::getenv("XEN_SEV_DEBIAN_FILES");
    Path path = Path{from ? from : "build/xen-files"} / name;
    if (std::filesystem::exists(path)) return path;
    fmt::print("SKIPPED: {} is absent (tests/fixtures/xen/debian_files.py fetches it)\n", path.string());
    return std::nullopt;
}

inline Bytes unzlib(ByteView packed, std::size_t size_bytes) {
    Bytes out(size_bytes);
    uLongf got = out.size();
    REQUIRE(uncompress(out.data(), &got, packed.data(), static_cast<uLong>(packed.size())) == Z_OK);
    out.resize(got);
    return out;
}

} // namespace sev::test
