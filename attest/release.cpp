// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "attest/secret_archive.hpp"
#include "attest/secret_packet.hpp"
#include "attest/secret_table.hpp"
#include "attest/smbios_secret.hpp"
#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t page = 4096;

/// Why a secret is held back; nothing when it may go out.
std::optional<std::string> held_because(const SecretRule& rule, const TrustedVerdict& trusted) {
    const Verdict& verdict = trusted.verdict();
    if (rule.references && (!verdict.reference || std::ranges::find(*rule.references, *verdict.reference) == rule.references->end()))
        return fmt::format("the launch is \"{}\", which the secret does not wait for", verdict.reference.value_or("?"));
    if (rule.needs_es && !trusted.session().policy.wants_es()) return "the guest runs without SEV-ES";
    if (verdict.level < rule.level) return fmt::format("the launch has level {}, want at least {}", verdict.level, rule.level);
    return std::nullopt;
}

SecretBytes content(const SecretRule& rule, const SecretReader& reader) {
    return within(fmt::format("secret {}", rule.name), [&] {
        SecretBytes bytes = reader(rule);
        if (bytes.size() == 0) throw Error{Fault::usage, fmt::format("{}: 0 bytes, want a secret", rule.path.string())};
        if (bytes.size() > secret_limit_bytes)
            throw Error{Fault::usage, fmt::format("{}: {} bytes, more than the limit of {}", rule.path.string(), bytes.size(), secret_limit_bytes)};
        return bytes;
    });
}

SecretPacketMessage table_packet(const TrustedVerdict& trusted, std::span<const SecretEntry> entries) {
    const SecretBytes table = build_secret_table(entries);
    const auto& block = trusted.secret_block();
    if (block && table.size() > block->size_bytes)
        throw Error{Fault::usage, fmt::format("secret table: {} bytes, and the firmware's secret block holds {}", table.size(), block->size_bytes)};
    const auto gpa = block ? std::optional{psp::Gpa{block->base}} : std::nullopt;
    return seal(trusted, {.slot = "efi", .offset_bytes = 0, .gpa = gpa}, table.reveal());
}

/// One packet a page.
void add_pages(std::vector<SecretPacketMessage>& packets, const TrustedVerdict& trusted, std::string_view slot, ByteView content) {
    for (std::size_t at = 0; at < content.size(); at += page)
        packets.push_back(seal(trusted, {.slot = std::string{slot}, .offset_bytes = at, .gpa = std::nullopt},
                               content.subspan(at, std::min(page, content.size() - at))));
}

} // namespace

ReleasePlan plan_release(const TrustedVerdict& trusted, const OwnerPolicy& policy) {
    ReleasePlan plan;
    for (const SecretRule& rule : policy.secrets) {
        if (const auto reason = held_because(rule, trusted)) plan.held.push_back({.name = rule.name, .reason = *reason});
        else plan.released.push_back(rule.name);
    }
    return plan;
}

SecretBytes read_secret_file(const SecretRule& rule, const Path& base) { return read_secret(base / rule.path, secret_limit_bytes); }

std::vector<SecretPacketMessage> release_secrets(const TrustedVerdict& trusted, const OwnerPolicy& policy) {
    return release_secrets(trusted, policy, [&](const SecretRule& rule) { return read_secret_file(rule, policy.base); });
}

std::vector<SecretPacketMessage> release_secrets(const TrustedVerdict& trusted, const OwnerPolicy& policy, const SecretReader& reader) {
    std::vector<SecretEntry> entries;
    std::vector<SecretFile> files;
    std::vector<SmbiosCredential> credentials;
    std::size_t slot_bytes = 0; // the same for all
    for (const SecretRule& rule : policy.secrets) {
        if (held_because(rule, trusted)) continue;
        if (const auto* guid = std::get_if<measure::Guid>(&rule.target)) {
            entries.push_back({.guid = *guid, .data = content(rule, reader)});
        } else if (const auto* smbios = std::get_if<SmbiosTarget>(&rule.target)) {
            credentials.push_back({.name = smbios->credential, .data = content(rule, reader)});
            slot_bytes = smbios->slot_bytes;
        } else {
            files.push_back({.name = std::get<std::string>(rule.target), .data = content(rule, reader)});
        }
    }
    std::vector<SecretPacketMessage> packets;
    if (!entries.empty()) packets.push_back(table_packet(trusted, entries));
    if (!files.empty()) add_pages(packets, trusted, "initrd", build_secret_archive(files).reveal());
    if (!credentials.empty()) add_pages(packets, trusted, "smbios", build_smbios_secret(credentials, slot_bytes).reveal());
    return packets;
}

} // namespace sev::attest
