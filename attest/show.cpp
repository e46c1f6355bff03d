// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "attest/guest_policy_bits.hpp"
#include "attest/owner_policy.hpp"
#include "attest/protocol/platform_evidence.hpp"

namespace sev::attest {
namespace {

std::string line(std::string_view name, std::string_view value) { return fmt::format("{:<12}{}\n", name, value); }

std::string bits(std::uint32_t mask) { return mask == 0 ? "nothing" : fmt::format("{}", fmt::join(guest_policy_bit_names(mask), " ")); }

template <class Recipe>
std::string vmsas(const Recipe& recipe) {
    if (recipe.vcpus == 0) return "no VMSA (plain SEV)";
    return fmt::format("{} vCPUs, VMSA profile {}{}{}", recipe.vcpus, recipe.vmsa_profile.value_or(""),
                       recipe.cpu ? ", CPU " + recipe.cpu->text() : std::string{},
                       recipe.sev_features != 0 ? fmt::format(", SEV_FEATURES 0x{:x}", recipe.sev_features) : std::string{});
}

struct ShowReference {
    std::string operator()(const DigestReference& known) const {
        return fmt::format("digest {}{}", hex(known.digest),
                           known.regions.empty() ? std::string{} : fmt::format(", {} regions", known.regions.size()));
    }
    std::string operator()(const QemuRecipe& recipe) const {
        std::string out = "QEMU: firmware " + recipe.firmware.string();
        if (recipe.kernel) out += ", kernel " + recipe.kernel->string();
        if (recipe.initrd) out += ", initrd " + recipe.initrd->string();
        if (recipe.kernel) out += fmt::format(", cmdline \"{}\"", recipe.cmdline);
        return out + ", " + vmsas(recipe);
    }
    std::string operator()(const ImageRecipe& recipe) const {
        std::string out = "image:";
        for (const ImageRecipe::Part& part : recipe.parts)
            out +=
                fmt::format(" {} {}{},", part.label, part.file.string(), part.gpa ? fmt::format(" at 0x{:x}", psp::raw(*part.gpa)) : std::string{});
        return out + " " + vmsas(recipe);
    }
    std::string operator()(const XenRecipe& recipe) const {
        const bool is_inline = recipe.source == XenRecipe::Source::inline_guest;
        std::string out = "Xen: " + (is_inline ? fmt::format("{} guest, {} MiB, {} vCPUs", name(recipe.guest.type), recipe.guest.memory_kib / 1024,
                                                             recipe.guest.vcpus)
                                               : fmt::format("{} {}", name(recipe.source), recipe.config.string()));
        if (is_inline && recipe.guest.cmdline) out += fmt::format(", cmdline \"{}\"", *recipe.guest.cmdline);
        if (recipe.xen_version) out += ", Xen " + recipe.xen_version->text();
        if (recipe.acpi_reference) out += ", ACPI reference " + recipe.acpi_reference->string();
        return out + fmt::format(", {}{}", name(recipe.order), recipe.build == measure::XenBuild::later ? ", built later in its process" : "");
    }
};

std::string condition(const SecretRule& rule) {
    std::string out;
    if (rule.references) out += rule.references->empty() ? ", never" : fmt::format(", after {}", fmt::join(*rule.references, " or "));
    if (rule.needs_es) out += ", with SEV-ES";
    if (rule.level != 0) out += fmt::format(", from level {}", rule.level);
    return out;
}

} // namespace

std::string show(const OwnerPolicy& policy) {
    std::string out = line("owner", policy.owner);
    out += line("valid", fmt::format("{} to {}", text(policy.not_before), text(policy.not_after)));
    for (const psp::Product product : policy.amd_roots) out += line("root", fmt::format("AMD {}", psp::name(product)));
    for (const OtherRoot& root : policy.other_roots)
        out += line("root", fmt::format("\"{}\"{}, {}, fingerprint {}", root.label, root.emulated ? ", EMULATED" : ", not AMD's",
                                        psp::name(root.product), hex(root.fingerprint)));
    for (const PinnedChip& chip : policy.pinned_chips)
        out += line("root", fmt::format("\"{}\", ONE CHIP, pinned by its CEK and not endorsed by AMD{}, {}, CEK {}", chip.label,
                                        chip.emulated ? ", EMULATED" : "", psp::name(chip.product), hex(chip.cek)));
    if (policy.amd_roots.empty() && policy.other_roots.empty() && policy.pinned_chips.empty()) out += line("root", "none: nothing is trusted");
    if (!policy.chips) out += line("chip", "any below the roots");
    else if (policy.chips->empty()) out += line("chip", "none: nothing is trusted");
    else
        for (const AllowedChip& chip : *policy.chips)
            out += line("chip", fmt::format("\"{}\", CEK {}{}", chip.label, hex(chip.cek), chip.id ? ", id " + hex(*chip.id) : std::string{}));
    out += line("firmware",
                fmt::format("build {} or newer{}", policy.minimum_build.text(), policy.accept_unproven_build ? ", proven or not" : ", proven"));
    out += line("guest", fmt::format("policy requires {}, forbids {}", bits(policy.required_bits), bits(policy.forbidden_bits)));
    out += line("level", fmt::format("at least {}", level_text(policy.level)));
    for (const EvidenceKind kind : policy.evidence) out += line("evidence", name(kind));
    for (const ReferenceRule& rule : policy.references)
        out += line("reference", fmt::format("\"{}\": {}", rule.name, std::visit(ShowReference{}, rule.value)));
    for (const SecretRule& rule : policy.secrets) {
        out += line("secret", fmt::format("\"{}\" as {}{}, from {}", rule.name, target_text(rule), condition(rule), rule.path.string()));
    }
    for (const std::string& id : policy.accepted_advisories) out += line("accepts", id);
    return out;
}

} // namespace sev::attest
