// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "psp/chain.hpp"

/// Whether bytes from a server, a cache or a file are what they claim to be. Nothing is taken on trust for where it came from.
namespace sev::endorsement {

/// Sizes of what servers give. A longer body is refused while it arrives.
inline constexpr std::size_t longest_ca_bytes = 3200, cek_bytes = psp::SevCertificate::wire_size;

/// A value, or why there is none. Both empty: there was nothing to judge.
template <class Value>
struct Judged {
    std::optional<Value> value;
    std::string refusal;
    explicit operator bool() const noexcept { return value.has_value(); }
};

/// ASK and ARK of one product, verified to a root of the given set.
struct Authority {
    psp::Root root; // names the product
    psp::CaCertificate ask, ark;
    psp::Product product() const noexcept { return root.product; }
    /// ASK‖ARK, as servers give it.
    Bytes serialize() const;
    friend bool operator==(const Authority&, const Authority&) = default;
};

/// Judges ASK‖ARK: every check of verify_chain on ARK and ASK passes, and the ARK is a root of `roots` for `product`, when one is wanted.
/// The refusal says what the bytes are instead ("an HTML page"), or which check failed.
Judged<Authority> judge_ca(ByteView bytes, std::string_view what, const std::vector<psp::Root>& roots, std::optional<psp::Product> product);
Judged<Authority> judge_ca(const psp::CaCertificate& ask, const psp::CaCertificate& ark, std::string_view what, const std::vector<psp::Root>& roots,
                           std::optional<psp::Product> product);

/// A CEK certificate as such: its size, format, usage and key, and that some ASK is said to have signed it.
Judged<psp::SevCertificate> parse_cek(ByteView bytes, std::string_view what);
/// Judges a CEK: every check of verify_chain on it passes under this ASK. It does not prove which chip it belongs to: no certificate holds a chip id.
/// That shows when the chip's own chain, whose PEK the CEK signed, is verified with it.
Judged<psp::SevCertificate> judge_cek(const psp::SevCertificate& cek, std::string_view what, const Authority& authority);

/// What bytes are that are no certificate: "empty", "an HTML page", "text", "PEM" …; empty when nothing is recognised.
std::string_view foreign(ByteView bytes);

} // namespace sev::endorsement
