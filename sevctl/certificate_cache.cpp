// SPDX-License-Identifier: Apache-2.0
#include "sevctl/certificate_cache.hpp"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <unistd.h>

namespace sev::cli {
namespace {

std::string environment(const char* name) {
    const char* const value = std::getenv(name);
    return value ? value : "";
}

} // namespace

endorsement::Store endorsement_store(const Arguments& given) {
    if (const auto cache = given.text_if(endorsement_cache_option.name)) {
        if (cache->empty()) throw Error{Fault::usage, "--cache is empty, want a directory"};
        return endorsement::Store{*cache};
    }
    return endorsement::Store{endorsement::default_directory(::geteuid() == 0, environment("XDG_CACHE_HOME"), environment("HOME"))};
}

psp::ChipId chip_id_of(std::string_view text, std::string_view what) {
    const auto bytes = try_unhex(text);
    if (!bytes || bytes->size() != std::tuple_size_v<psp::ChipId>)
        throw Error{Fault::usage,
                    fmt::format("{} is {} ({} characters), want 128 hex digits", what, text.empty() ? "empty" : printable(text, 40), text.size()),
                    "sevctl show identifier prints it"};
    psp::ChipId id{};
    std::ranges::copy(*bytes, id.begin());
    return id;
}

} // namespace sev::cli
