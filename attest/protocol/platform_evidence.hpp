// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "attest/protocol/message.hpp"
#include "psp/chain.hpp"
#include "psp/structures.hpp"

namespace sev::attest {

/// Which PSP answers, as psp::Firmware::backend() names it.
enum class Backend { emulated, ccp, xen };
std::string_view name(Backend backend); // "emulated", "ccp", "xen"
std::optional<Backend> backend_named(std::string_view name);

/// What a host can do, DESIGN's ladder L0 … L5.
inline constexpr unsigned highest_level = 5;
/// One line for people: "L1: software-measured launch, memory is not encrypted". Throws Error{Fault::bug} above 5.
std::string level_text(unsigned level);

/// What a host says of its platform before a session is made. All of it is a claim until `judge` has held it against something:
/// the chain proves itself; `build` is proven by a later MEASURE (API 0.17 and newer); `chip_id` and `level` by nothing at all.
/// JSON: format "xen-sev/platform-evidence", docs/schemas/platform-evidence.schema.json.
struct PlatformEvidence {
    static constexpr std::string_view format = "xen-sev/platform-evidence";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 64 * 1024;
    static constexpr std::size_t chain_limit_bytes = 16 * 1024;

    Bytes chain; // binary, any form psp::parse_chain reads; "chain" in base64
    psp::PlatformStatus status; // "build" is "0.17.48"; "status" is {state, externally_owned, es_configured, guest_count}
    std::optional<psp::ChipId> chip_id; // 128 hex digits; absent when the firmware has no GET_ID
    Backend backend = Backend::emulated;
    unsigned level = 0; // 0 … 5

    psp::Build build() const noexcept { return status.build; }
    static PlatformEvidence from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const PlatformEvidence&, const PlatformEvidence&) = default;
};

} // namespace sev::attest
