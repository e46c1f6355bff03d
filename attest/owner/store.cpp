// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/store.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest::owner {
namespace {

constexpr std::array<std::pair<SessionState, std::string_view>, 7> states{{{SessionState::open, "open"},
                                                                           {SessionState::taken, "taken"},
                                                                           {SessionState::trusted, "trusted"},
                                                                           {SessionState::not_trusted, "not-trusted"},
                                                                           {SessionState::troubled, "troubled"},
                                                                           {SessionState::expired, "expired"},
                                                                           {SessionState::refused, "refused"}}};

} // namespace

std::string_view name(SessionState state) {
    for (const auto& [value, text] : states)
        if (value == state) return text;
    throw Error{Fault::bug, "no such session state"};
}

std::optional<SessionState> session_state_named(std::string_view text) {
    const auto found = std::ranges::find(states, text, [](const auto& entry) { return entry.second; });
    return found == states.end() ? std::nullopt : std::optional{found->first};
}

std::uint64_t StoreCounts::of(std::optional<SessionState> state) const {
    if (!state) return open + taken + trusted + not_trusted + troubled + expired + refused;
    switch (*state) {
    case SessionState::open: return open;
    case SessionState::taken: return taken;
    case SessionState::trusted: return trusted;
    case SessionState::not_trusted: return not_trusted;
    case SessionState::troubled: return troubled;
    case SessionState::expired: return expired;
    case SessionState::refused: return refused;
    }
    throw Error{Fault::bug, "no such session state"};
}

std::string SessionRecord::seal_context() const {
    // no field holds a line feed: names are printable ASCII, the rest is numbers and hex
    return fmt::format("xen-sev session keys 1\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", hex(facts.id), channel, facts.launch_name, policy_name,
                       facts.policy.value, hex(facts.report_nonce), hex(facts.pdh), hex(snapshot), created_at.time_since_epoch().count(),
                       expires_at.time_since_epoch().count(), hex(sha256(as_bytes(platform))));
}

std::string seal_context(std::string_view kind, std::string_view name) { return fmt::format("xen-sev document 1\n{}\n{}", kind, name); }

Document sealed_document(const SealKeys& keys, std::string_view kind, std::string_view name, ByteView content) {
    return {
        .kind = std::string{kind}, .name = std::string{name}, .sealed = keys.seal(seal_context(kind, name), content), .changed_at = {}};
}

SecretBytes open_document(const SealKeys& keys, const Document& document) {
    return within(fmt::format("stored {} {}", printable(document.kind), printable(document.name)), [&] {
        if (!document.sealed)
            throw Error{Fault::system, "bears no seal of this owner: whoever may write to the store may have written it",
                        fmt::format("store it again: sev-owner {} add", printable(document.kind))};
        return keys.open(seal_context(document.kind, document.name), *document.sealed);
    });
}

} // namespace sev::attest::owner
