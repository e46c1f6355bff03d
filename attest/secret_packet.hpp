// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "attest/judge.hpp"
#include "attest/protocol/secret_packet_message.hpp"
#include "psp/keys.hpp"

namespace sev::attest {

/// Where a packet goes.
struct SecretPlace {
    std::string slot; // "efi", "initrd" or a region's label
    std::uint64_t offset_bytes = 0;
    std::optional<psp::Gpa> gpa;
};

/// seal makes one LAUNCH_SECRET packet for the launch that was trusted: AES-128-CTR under TEK with a fresh IV, MAC under TIK over the ciphertext and
/// MEASURE. Throws Error{Fault::usage} for a plaintext of 0 bytes, of more than 16 KiB, or not a multiple of 16. Source: SEV API (AMD 55766),
/// LAUNCH_SECRET.
SecretPacketMessage seal(const TrustedVerdict& trusted, const SecretPlace& place, ByteView plaintext);

/// The secrets of a policy that the verdict sets free, read, laid out and sealed: GUID secrets as one table in slot "efi", file secrets as
/// an archive in slot "initrd", one packet a page. Empty when no condition holds. Throws Error{Fault::usage} when a table exceeds the firmware's
/// secret block or 16 KiB, Error{Fault::system} when a secret file cannot be read; no packet leaves then.
std::vector<SecretPacketMessage> release_secrets(const TrustedVerdict& trusted, const OwnerPolicy& policy);
/// Where a secret's bytes come from. Throws Error{Fault::system} when they cannot be had; at least one byte, at most `secret_limit_bytes`.
using SecretReader = std::function<SecretBytes(const SecretRule& rule)>;
inline constexpr std::size_t secret_limit_bytes = 1U << 20;
/// Same, with secrets that lie elsewhere than in files.
std::vector<SecretPacketMessage> release_secrets(const TrustedVerdict& trusted, const OwnerPolicy& policy, const SecretReader& reader);
/// Reads the rule's file, relative to the policy's folder.
SecretBytes read_secret_file(const SecretRule& rule, const Path& base);
/// Names of those secrets, and of those held back with the reason, for people.
struct ReleasePlan {
    std::vector<std::string> released;
    struct Held {
        std::string name, reason;
        friend bool operator==(const Held&, const Held&) = default;
    };
    std::vector<Held> held;
};
ReleasePlan plan_release(const TrustedVerdict& trusted, const OwnerPolicy& policy);

/// A packet outside any message.
struct SealedPacket {
    psp::PacketHeader header;
    Bytes data;
};
/// Seals for a MEASURE whose trustworthiness the caller vouches for: nothing was judged here. For `sevctl secret build` alone, whose user has
/// decided. `api` of the launching firmware: below 0.17 the MAC leaves MEASURE out. `iv` nullopt: a fresh one. Throws as `seal`.
SealedPacket seal_for_measurement(const psp::Tek& tek, const psp::Tik& tik, psp::ApiVersion api, const Digest& measure, ByteView plaintext,
                                  const std::optional<ByteArray<16>>& iv = std::nullopt);

} // namespace sev::attest
