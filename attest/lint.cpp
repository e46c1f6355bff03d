// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "attest/advisories.hpp"
#include "attest/guest_policy_bits.hpp"
#include "attest/owner_policy.hpp"
#include "psp/types.hpp"

namespace sev::attest {
namespace {

/// The findings of one policy.
class Findings {
public:
    void deny(std::string id, std::string text, std::string remedy) { out_.push_back({std::move(id), true, std::move(text), std::move(remedy)}); }
    void warn(std::string id, std::string text, std::string remedy) { out_.push_back({std::move(id), false, std::move(text), std::move(remedy)}); }
    std::vector<LintFinding> take() { return std::move(out_); }

private:
    std::vector<LintFinding> out_;
};

bool accepts(const OwnerPolicy& policy, EvidenceKind kind) { return std::ranges::find(policy.evidence, kind) != policy.evidence.end(); }

void empty_lists(const OwnerPolicy& policy, Findings& found) {
    if (policy.amd_roots.empty() && policy.other_roots.empty() && policy.pinned_chips.empty())
        found.deny("roots-empty", "no root is trusted, so no platform is", "name an AMD product in roots.amd, or a root in roots.other");
    if (policy.chips && policy.chips->empty()) found.deny("chips-empty", "no chip is allowed", "list chips by their CEK, or write \"any\"");
    if (policy.references.empty()) found.deny("references-empty", "no launch digest is expected, so none can match", "add a reference");
    if (policy.evidence.empty()) found.deny("evidence-empty", "no kind of evidence is accepted", "accept \"measurement\"");
}

void validity(const OwnerPolicy& policy, Time now, Findings& found) {
    if (now > policy.not_after)
        found.deny("expired", fmt::format("valid until {}, and it is {}", text(policy.not_after), text(now)), "renew validity.not_after");
    if (now < policy.not_before)
        found.warn("not-yet-valid", fmt::format("valid from {}, and it is {}", text(policy.not_before), text(now)),
                   "wait, or change validity.not_before");
    if (policy.not_after - policy.not_before > std::chrono::years{2})
        found.warn("valid-for-long", "valid for more than two years", "a short validity makes the owner look at new advisories now and then");
}

void bits(const OwnerPolicy& policy, Findings& found) {
    const std::uint32_t both = policy.required_bits & policy.forbidden_bits;
    if (both != 0)
        found.deny("bits-contradict", fmt::format("{} required and forbidden at once", fmt::join(guest_policy_bit_names(both), ", ")),
                   "take it from one of the lists in guest_policy");
    const auto want = [&](std::uint32_t bit, std::string_view id, std::string_view text) {
        if ((policy.required_bits & bit) == 0)
            found.warn(std::string{id}, std::string{text}, fmt::format("require {} in guest_policy", guest_policy_bit_names(bit).front()));
    };
    want(psp::Policy::nodbg, "nodbg-not-required", "the host may read and write guest memory with debug commands");
    want(psp::Policy::noks, "noks-not-required", "the host may give another guest the same memory key");
    want(psp::Policy::es, "es-not-required", "the host may read and write the guest's registers");
    want(psp::Policy::nosend, "nosend-not-required", "the host may move the guest, with its secrets, to another platform");
}

void roots_and_level(const OwnerPolicy& policy, Findings& found) {
    for (const OtherRoot& root : policy.other_roots)
        if (root.emulated)
            found.warn("emulated-root", fmt::format("root \"{}\" is an emulated PSP: whoever has its keys can forge everything", root.label),
                       "for tests, and for hosts that are trusted anyway");
        else
            found.warn("other-root", fmt::format("root \"{}\" is not AMD's: what it signs is as good as its owner", root.label),
                       "be sure whose it is");
    for (const PinnedChip& chip : policy.pinned_chips)
        found.warn(chip.emulated ? "emulated-pin" : "pinned-chip",
                   chip.emulated
                       ? fmt::format("chip \"{}\" is an emulated PSP: whoever has its state can forge everything", chip.label)
                       : fmt::format("chip \"{}\" is trusted by its CEK alone: that it is AMD's hardware is your word, not AMD's", chip.label),
                   "pin only a CEK that you read from the machine yourself, and prefer AMD's endorsement where it can be had");
    const bool pinned_hardware = std::ranges::any_of(policy.pinned_chips, [](const PinnedChip& chip) { return !chip.emulated; });
    const bool some_root = !policy.other_roots.empty() || !policy.pinned_chips.empty();
    if (policy.amd_roots.empty() && !pinned_hardware && some_root && policy.level > 1)
        found.deny("level-unreachable", fmt::format("level {} is asked for, and without an AMD root none above 1 is ever reached", policy.level),
                   "name an AMD product in roots.amd, or ask for level 1");
    if (policy.level == 5 && (policy.forbidden_bits & psp::Policy::es) != 0)
        found.deny("level-unreachable", "level 5 is SEV-ES, and ES is forbidden", "ask for level 4, or allow ES");
    if (policy.level == 0)
        found.warn("level-0", "a host without any protection meets level 0", "ask for level 4 or 5 where memory must be encrypted");
    if (!policy.chips) found.warn("chips-any", "every chip below the roots is allowed, stolen and bought ones too", "list the chips by their CEK");
}

void evidence(const OwnerPolicy& policy, Findings& found) {
    const bool only_reports = !policy.evidence.empty() && !accepts(policy, EvidenceKind::measurement);
    if (only_reports && !policy.accept_unproven_build)
        found.deny("build-unprovable", "only attestation reports are accepted, and they do not prove the firmware's build",
                   "accept \"measurement\", or set accept_unproven_build");
    if (policy.accept_unproven_build)
        found.warn("unproven-build-accepted", "minimum_build and advisories may rest on the host's word alone",
                   "accept measurements only, and drop accept_unproven_build");
    if (only_reports && !policy.secrets.empty())
        found.warn("secrets-unreachable", "secrets go out after a measurement only, and none is accepted", "accept \"measurement\"");
}

void references(const OwnerPolicy& policy, Findings& found) {
    const auto without_vmsas = [](const ReferenceRule& rule) {
        if (const auto* qemu = std::get_if<QemuRecipe>(&rule.value)) return qemu->vcpus == 0;
        if (const auto* image = std::get_if<ImageRecipe>(&rule.value)) return image->vcpus == 0;
        return false;
    };
    for (const ReferenceRule& rule : policy.references) {
        if ((policy.required_bits & psp::Policy::es) != 0 && without_vmsas(rule))
            found.warn("reference-without-vmsas", fmt::format("reference \"{}\" has no vcpus, and SEV-ES measures a VMSA for each", rule.name),
                       "add vcpus, vmsa_profile and cpu");
        const auto* xen = std::get_if<XenRecipe>(&rule.value);
        if (xen && (policy.required_bits & psp::Policy::es) != 0)
            found.warn("reference-without-vmsas",
                       fmt::format("reference \"{}\" is a Xen guest's, whose VMSAs are not predicted, and SEV-ES measures them", rule.name),
                       "do not require ES in guest_policy for Xen guests");
        if ((policy.required_bits & psp::Policy::es) == 0 && !std::holds_alternative<DigestReference>(rule.value) && !xen && !without_vmsas(rule))
            found.warn("reference-with-vmsas", fmt::format("reference \"{}\" has VMSAs, and plain SEV measures none", rule.name),
                       "require ES in guest_policy");
        const auto* qemu = std::get_if<QemuRecipe>(&rule.value);
        if (qemu && !qemu->kernel)
            found.warn("kernel-unmeasured", fmt::format("reference \"{}\" has no kernel: what the firmware boots is not measured", rule.name),
                       "boot with kernel hashes, or let the firmware open nothing but an encrypted disk");
        if (xen && xen->source == XenRecipe::Source::inline_guest && xen->guest.type == measure::XenGuestType::hvm)
            found.warn("hvm-runs-unmeasured", fmt::format("reference \"{}\" is an HVM guest: what its firmware boots is not measured", rule.name),
                       "use a PVH guest");
    }
    for (const SecretRule& rule : policy.secrets) {
        if (rule.references && rule.references->empty())
            found.warn("secret-never", fmt::format("secret \"{}\" waits for none of no references: it never goes out", rule.name),
                       "name references in when, or drop the list");
        if (rule.needs_es && (policy.forbidden_bits & psp::Policy::es) != 0)
            found.warn("secret-never", fmt::format("secret \"{}\" needs SEV-ES, and ES is forbidden", rule.name), "allow ES");
    }
}

void advisories(const OwnerPolicy& policy, Findings& found) {
    for (const std::string& id : policy.accepted_advisories) {
        const Advisory* advisory = builtin_advisories().find(id);
        if (!advisory)
            found.warn("advisory-unknown", fmt::format("accepted advisory {} is not in the list of {}", id, builtin_advisories().revised),
                       "check its spelling");
        else if (advisory->severity == Severity::fail)
            found.warn("advisory-accepted", fmt::format("{} is accepted: {}", id, advisory->title), advisory->remedy);
    }
}

} // namespace

std::vector<LintFinding> lint(const OwnerPolicy& policy, Time now) {
    Findings found;
    empty_lists(policy, found);
    validity(policy, now, found);
    bits(policy, found);
    roots_and_level(policy, found);
    evidence(policy, found);
    references(policy, found);
    advisories(policy, found);
    return found.take();
}

} // namespace sev::attest
