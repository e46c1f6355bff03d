// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "attest/protocol/launch_descriptor.hpp"
#include "attest/protocol/launch_evidence.hpp"
#include "attest/xen_recipe.hpp"
#include "base/file.hpp"
#include "ovmf-measure/firmware_table.hpp"
#include "ovmf-measure/vmsa.hpp"
#include "psp/chain.hpp"

namespace sev::attest {

/// One chip an owner allows, named by its CEK: the endorsement key is what the chain proves. A chip id (GET_ID) alone would be the host's
/// claim, because no certificate contains it; given beside the CEK, it must match as well.
struct AllowedChip {
    std::string label;
    Digest cek{}; // SevCertificate::fingerprint of the CEK
    std::optional<psp::ChipId> id;
    friend bool operator==(const AllowedChip&, const AllowedChip&) = default;
};

/// A root the owner trusts besides AMD's. An emulated PSP is accepted only through one of these, with `emulated` true.
struct OtherRoot {
    std::string label;
    psp::Product product;
    Digest fingerprint{}; // CaCertificate::fingerprint of the ARK
    bool emulated = false;
    friend bool operator==(const OtherRoot&, const OtherRoot&) = default;
};

/// One chip the owner trusts by its CEK alone, because AMD's endorsement of it is not to be had (embedded parts may have none). It is the owner who
/// vouches for the chip: that it is AMD hardware, or that it is emulated. Such a chain has no ARK and no ASK; one that has them is judged by them.
struct PinnedChip {
    std::string label;
    psp::Product product;
    Digest cek{}; // SevCertificate::fingerprint of the CEK
    bool emulated = false;
    friend bool operator==(const PinnedChip&, const PinnedChip&) = default;
};

/// "This firmware, this kernel, these vCPUs, this VMSA profile": QEMU and KVM. Paths are absolute or relative to the policy file.
struct QemuRecipe {
    Path firmware;
    std::optional<Path> kernel, initrd; // measured direct boot (kernel-hashes=on); initrd and cmdline only with kernel
    std::string cmdline;
    unsigned vcpus = 0;                       // 0: plain SEV; otherwise SEV-ES with that many VMSAs
    std::optional<std::string> vmsa_profile;  // with vcpus, else absent
    std::optional<measure::CpuSignature> cpu; // with vcpus (JSON: a QEMU model name, or {family, model, stepping})
    std::uint64_t sev_features = 0;
    friend bool operator==(const QemuRecipe&, const QemuRecipe&) = default;
};
/// A list of files with addresses, in load order; each is measured as its bytes, zero-padded to `length_bytes` when given, else to a multiple of 16.
/// VMSAs follow when `vcpus` is not 0; APs start where the SEV-ES reset block of the last region says, if it has one.
struct ImageRecipe {
    struct Part {
        std::string label;
        std::optional<psp::Gpa> gpa;
        Path file;
        std::optional<std::uint64_t> length_bytes;
        friend bool operator==(const Part&, const Part&) = default;
    };
    std::vector<Part> parts;
    unsigned vcpus = 0;
    std::optional<std::string> vmsa_profile;
    std::optional<measure::CpuSignature> cpu;
    std::uint64_t sev_features = 0;
    friend bool operator==(const ImageRecipe&, const ImageRecipe&) = default;
};
/// A launch digest computed elsewhere. `regions` serve explanations: the digest cannot be computed from theirs.
struct DigestReference {
    Digest digest{};
    std::vector<Region> regions;
    friend bool operator==(const DigestReference&, const DigestReference&) = default;
};
struct ReferenceRule {
    std::string name;
    std::variant<DigestReference, QemuRecipe, ImageRecipe, XenRecipe> value; // JSON: exactly one of "digest" (with "regions"), "qemu", "image", "xen"
    friend bool operator==(const ReferenceRule&, const ReferenceRule&) = default;
};

/// A credential in the SMBIOS slot of an HVM guest; `slot_bytes` is the size of its slot file, as `sevctl slot smbios` says it.
struct SmbiosTarget {
    std::string credential;
    std::size_t slot_bytes = 0;
    friend bool operator==(const SmbiosTarget&, const SmbiosTarget&) = default;
};

/// A secret and when it may go out. The file is read only when a packet is made from a trusted verdict.
struct SecretRule {
    std::string name;
    // JSON: exactly one of "guid" (firmware's secret table), "file_name" (a file in the initrd slot), "smbios": {"credential", "slot_bytes"}
    std::variant<measure::Guid, std::string, SmbiosTarget> target;
    Path path;
    std::optional<std::vector<std::string>> references; // only after one of these matched; an empty list: never
    bool needs_es = false;
    unsigned level = 0; // at least
    friend bool operator==(const SecretRule&, const SecretRule&) = default;
};

/// Where it goes, for people: a GUID, "file NAME", "smbios credential NAME". No two of a policy are the same.
std::string target_text(const SecretRule& rule);

/// The guest owner's policy file. JSON, format "xen-sev/owner-policy"; docs/schemas/owner-policy.schema.json. Unknown keys are refused; a list that
/// says what is allowed denies when it is empty; nothing that widens trust has a default.
struct OwnerPolicy {
    static constexpr std::string_view format = "xen-sev/owner-policy";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 1024 * 1024;
    static constexpr std::size_t list_limit = 1024;

    std::string owner;
    Time not_before{}, not_after{};              // valid from, and up to and including
    std::vector<psp::Product> amd_roots;         // "roots": {"amd": ["naples"], "other": [...]}
    std::vector<OtherRoot> other_roots;
    std::vector<PinnedChip> pinned_chips;        // "roots": {…, "pinned_chips": [...]}; the key may be absent
    std::optional<std::vector<AllowedChip>> chips; // nullopt is the explicit "any"
    psp::Build minimum_build;                    // API and build, "0.17.48"
    bool accept_unproven_build = false;          // an attestation report, and MEASURE below API 0.17, do not prove the build
    std::uint32_t required_bits = 0, forbidden_bits = 0; // of the guest policy, bits 5:0; JSON: lists of NODBG NOKS ES NOSEND DOMAIN SEV
    unsigned level = 0;                          // at least
    std::vector<EvidenceKind> evidence;          // kinds that are accepted
    std::vector<ReferenceRule> references;
    std::vector<SecretRule> secrets;
    std::vector<std::string> accepted_advisories; // by id
    Path base;                                   // folder of the policy file; not in the JSON

    /// Throws Error{Fault::malformed} with the key, got and want.
    static OwnerPolicy from_json(const json::Value& value, std::string_view what, Path base);
    static OwnerPolicy parse(std::string_view text, std::string_view what, Path base);
    /// Reads a file of at most `limit_bytes`.
    static OwnerPolicy load(const Path& path);
    json::Value to_json() const;

    /// The root set for verify_chain: AMD's of the named products, the others, and the pinned CEKs.
    std::vector<psp::Root> roots() const;
    /// The guest policy for a new session: required bits and, as minimum API, the one of `minimum_build`, so that the firmware enforces it too.
    psp::Policy session_policy() const noexcept;
    friend bool operator==(const OwnerPolicy&, const OwnerPolicy&) = default;
};

/// One thing a reader of a policy should know. `id` is stable ("chips-any"); `fatal`: the policy can never trust anything.
struct LintFinding {
    std::string id;
    bool fatal = false;
    std::string text, remedy;
    friend bool operator==(const LintFinding&, const LintFinding&) = default;
};
/// Looks for what denies everything (empty lists, a validity in the past) and for what is weaker than it may seem. Reads no file.
std::vector<LintFinding> lint(const OwnerPolicy& policy, Time now);

/// Text of a policy for people.
std::string show(const OwnerPolicy& policy);

struct PolicyDifference {
    std::string path; // JSON pointer: "/references/0/digest"
    std::optional<std::string> left, right; // values as JSON text; absent on that side
    friend bool operator==(const PolicyDifference&, const PolicyDifference&) = default;
};
/// What differs between two policies, by JSON pointer, in the left policy's order.
std::vector<PolicyDifference> diff(const OwnerPolicy& left, const OwnerPolicy& right);

} // namespace sev::attest
