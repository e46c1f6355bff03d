// SPDX-License-Identifier: Apache-2.0
#include "sevctl/check_texts.hpp"

#include <algorithm>
#include <array>

namespace sev::cli {
namespace {

constexpr std::string_view other_platform = "get the platform's certificates again; if it stays so, do not use this platform";

constexpr auto texts = std::to_array<CheckText>({
    {"chain.roots", "whether any root of trust is named; nothing can be verified against an empty set",
     "name AMD's roots or others in the policy, or use --root"},
    {"chain.format", "whether the host's certificate chain can be read at all", "get the chain again, as sevctl export --full writes it"},
    {"chain.ark.root", "whether the ARK is one of the roots that are trusted, by its fingerprint",
     "for AMD hardware use AMD's ask_ark_PRODUCT.cert; name another root, such as an emulated PSP's, only when you mean to trust it"},
    {"chain.cek.pinned",
     "that AMD's endorsement of the CEK is missing, and the policy pins this very CEK instead: the owner vouches for the chip, not AMD",
     "pin only a CEK that was read from the machine itself; prefer AMD's endorsement where it can be had"},
    {"chain.*.present", "whether the certificate is there",
     "add it: the CEK comes from AMD's key server, ASK and ARK from AMD's ask_ark_PRODUCT.cert"},
    {"chain.*.usage", "whether the certificate is for the use that its place in the chain demands", other_platform},
    {"chain.*.algorithm", "whether the key's algorithm is the one that its place demands", other_platform},
    {"chain.*.curve", "whether the public point lies on P-384; a point off the curve can give private keys away", other_platform},
    {"chain.*.rsa_key", "whether the RSA key has 2048 or 4096 bits and exponent 65537", other_platform},
    {"chain.*.slots", "whether both signature slots are a known signer's or really empty", other_platform},
    {"chain.*.key_id", "whether the CA certificate bears AMD's KEY_ID for the product of its root",
     "use the ask_ark_PRODUCT.cert of the right product"},
    {"chain.*.certifying_id", "whether the certificate names the ARK as its signer", "use ASK and ARK of the same product"},
    {"chain.*.signature_by_ark", "whether the ARK signed the certificate", "use ASK and ARK of the same product"},
    {"chain.*.signature_by_ask", "whether AMD's ASK signed the CEK: whether this is a chip that AMD made",
     "an exported CEK is unsigned: fetch the signed one by the chip's id; use the ASK of the right product"},
    {"chain.*.signature_by_cek", "whether the chip's CEK signed the PEK", other_platform},
    {"chain.*.signature_by_oca", "whether the platform owner's OCA signed the certificate", other_platform},
    {"chain.*.signature_by_pek", "whether the PEK signed the PDH", other_platform},
    {"policy.validity", "whether the guest owner's policy is valid at the time of judging", "renew the policy, or check the clock"},
    {"platform.root_kind", "whether root and policy agree on the PSP being emulated or AMD's",
     "list the emulated root with \"emulated\": true only when you mean to trust it"},
    {"platform.backend", "whether the host's claim of which PSP answers fits the chain", "find out what the host runs"},
    {"platform.chip", "whether the chip is one that the policy allows, by its CEK", "add the chip to the policy, if it is yours"},
    {"platform.build_minimum", "whether the SEV firmware is as new as the policy demands", "update the platform's firmware"},
    {"level.required", "whether the host protects guests as far as the policy demands", "use another host, or ask less in the policy"},
    {"host.signature", "that the bundle bears the signature of the host whose key was pinned: who collected it, which attests nothing",
     "nothing; a bundle whose signature does not verify is not judged at all"},
    {"host.times", "whether the times in the bundle, by the host's clock, come one after the other, are not in the future, and not older than asked",
     "collect the bundle again, or check the clocks; --max-age says how old a bundle may be"},
    {"session.known", "whether the session in the bundle is known to be the owner's own, and not from the bundle alone",
     "give the session's TIK with --tik, or, for a report, the owner's own offer with --offer"},
    {"session.id", "whether the evidence is about the session that the owner made", "start the launch again with a new session"},
    {"session.launch_name", "whether the evidence is about the launch that the session was made for", "start the launch again with a new session"},
    {"session.policy", "whether the guest was launched with the session's policy", "start the launch again with a new session"},
    {"session.pdh", "whether the platform that shows its chain is the one that the session was made for", "make the session for this platform's PDH"},
    {"launch.build", "whether platform and launch evidence name the same firmware version",
     "start the launch again; the firmware was changed meanwhile"},
    {"policy.required_bits", "whether the guest policy has every bit that the owner demands", "make the session with those bits"},
    {"policy.forbidden_bits", "whether the guest policy has none of the bits that the owner forbids", "make the session without those bits"},
    {"policy.minimum_api", "whether the firmware meets the API version in the guest policy", "update the platform's firmware"},
    {"policy.reserved_bits", "whether the reserved bits of the guest policy are 0", "make the session with a policy whose bits 15:6 are 0"},
    {"evidence.kind", "whether the policy accepts this kind of evidence", "ask for the kind that the policy lists"},
    {"evidence.build_proven", "whether the evidence proves the firmware's version; a report, and MEASURE below API 0.17, do not",
     "use a measurement, or accept_unproven_build"},
    {"report.signature", "whether the PEK of the chain signed the attestation report",
     "ask for the report again; if it stays so, do not use this platform"},
    {"report.nonce", "whether the report answers this session's question, and is no older one", "ask for the report with the session's nonce"},
    {"report.policy", "whether the report's policy is the session's", "start the launch again with a new session"},
    {"launch.digest", "whether what was loaded is what one of the owner's references says, byte for byte",
     "compare firmware, kernel, command line, vCPUs and VMSA profile with the reference; sevctl measure shows each region"},
    {"advisories", "whether the known weaknesses of SEV were evaluated", "name those you accept in the policy"},
});

/// "chain.pek.curve" against "chain.*.curve".
bool fits(std::string_view pattern, std::string_view check) {
    const auto star = pattern.find('*');
    if (star == std::string_view::npos) return pattern == check;
    const std::string_view tail = pattern.substr(star + 1);
    if (!check.starts_with(pattern.substr(0, star)) || !check.ends_with(tail) || check.size() < star + tail.size()) return false;
    constexpr std::array<std::string_view, 6> links{"ark", "ask", "cek", "oca", "pek", "pdh"};
    return std::ranges::find(links, check.substr(star, check.size() - star - tail.size())) != links.end();
}

} // namespace

std::span<const CheckText> all_check_texts() { return texts; }

const CheckText* find_check_text(std::string_view check) {
    const auto found = std::ranges::find_if(texts, [&](const CheckText& text) { return fits(text.check, check); });
    return found == texts.end() ? nullptr : &*found;
}

} // namespace sev::cli
