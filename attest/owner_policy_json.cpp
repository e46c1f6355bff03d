// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "attest/guest_policy_bits.hpp"
#include "attest/owner_policy.hpp"

namespace sev::attest {
namespace {

template <class Recipe>
void put_vmsas(json::Value& out, const Recipe& recipe) {
    if (recipe.vcpus == 0) return;
    out["vcpus"] = recipe.vcpus;
    out["vmsa_profile"] = recipe.vmsa_profile.value_or("");
    if (recipe.cpu) out["cpu"] = {{"family", recipe.cpu->family()}, {"model", recipe.cpu->model()}, {"stepping", recipe.cpu->stepping()}};
    if (recipe.sev_features != 0) out["sev_features"] = recipe.sev_features;
}

struct PutReference {
    json::Value& out;
    void operator()(const DigestReference& known) const {
        out["digest"] = hex(known.digest);
        if (known.regions.empty()) return;
        json::Value& list = out["regions"] = json::Value::array();
        for (const Region& region : known.regions) list.push_back(to_json(region));
    }
    void operator()(const QemuRecipe& recipe) const {
        json::Value& qemu = out["qemu"];
        qemu["firmware"] = recipe.firmware.string();
        if (recipe.kernel) qemu["kernel"] = recipe.kernel->string();
        if (recipe.initrd) qemu["initrd"] = recipe.initrd->string();
        if (!recipe.cmdline.empty()) qemu["cmdline"] = recipe.cmdline;
        put_vmsas(qemu, recipe);
    }
    void operator()(const ImageRecipe& recipe) const {
        json::Value& parts = out["image"]["parts"] = json::Value::array();
        for (const ImageRecipe::Part& part : recipe.parts) {
            json::Value one{{"label", part.label}};
            if (part.gpa) one["gpa"] = fmt::format("0x{:x}", psp::raw(*part.gpa));
            one["file"] = part.file.string();
            if (part.length_bytes) one["length"] = *part.length_bytes;
            parts.push_back(std::move(one));
        }
        put_vmsas(out["image"], recipe);
    }
    void operator()(const XenRecipe& recipe) const { out["xen"] = recipe.to_json(); }
};

json::Value secret_to_json(const SecretRule& rule) {
    json::Value out{{"name", rule.name}};
    if (const auto* guid = std::get_if<measure::Guid>(&rule.target)) out["guid"] = guid->text();
    else if (const auto* smbios = std::get_if<SmbiosTarget>(&rule.target))
        out["smbios"] = {{"credential", smbios->credential}, {"slot_bytes", smbios->slot_bytes}};
    else out["file_name"] = std::get<std::string>(rule.target);
    out["path"] = rule.path.string();
    json::Value when = json::Value::object();
    if (rule.references) when["references"] = *rule.references;
    if (rule.needs_es) when["es"] = true;
    if (rule.level != 0) when["level"] = rule.level;
    if (!when.empty()) out["when"] = std::move(when);
    return out;
}

json::Value chips_to_json(const std::optional<std::vector<AllowedChip>>& chips) {
    if (!chips) return "any";
    json::Value out = json::Value::array();
    for (const AllowedChip& chip : *chips) {
        json::Value one{{"label", chip.label}, {"cek", hex(chip.cek)}};
        if (chip.id) one["id"] = hex(*chip.id);
        out.push_back(std::move(one));
    }
    return out;
}

/// Walks both values; what only one side has, or both have differently, is a difference. Arrays go by position.
void compare(const json::Value* left, const json::Value* right, const std::string& path, std::vector<PolicyDifference>& out) {
    if (left && right && *left == *right) return;
    const bool objects = left && right && left->is_object() && right->is_object();
    const bool arrays = left && right && left->is_array() && right->is_array();
    if (objects) {
        const auto of = [](const json::Value& in, const std::string& key) { return in.contains(key) ? &in[key] : nullptr; };
        for (const auto& [key, value] : left->items()) compare(&value, of(*right, key), path + "/" + key, out);
        for (const auto& [key, value] : right->items())
            if (!left->contains(key)) compare(nullptr, &value, path + "/" + key, out);
    } else if (arrays) {
        for (std::size_t i = 0; i < std::max(left->size(), right->size()); ++i)
            compare(i < left->size() ? &(*left)[i] : nullptr, i < right->size() ? &(*right)[i] : nullptr, fmt::format("{}/{}", path, i), out);
    } else {
        const auto text = [](const json::Value* value) { return value ? std::optional{value->dump()} : std::nullopt; };
        out.push_back({.path = path, .left = text(left), .right = text(right)});
    }
}

} // namespace

json::Value OwnerPolicy::to_json() const {
    json::Value out = with_format(format, version);
    out["owner"] = owner;
    out["validity"] = {{"not_before", text(not_before)}, {"not_after", text(not_after)}};
    json::Value& roots = out["roots"];
    roots["amd"] = json::Value::array();
    for (const psp::Product product : amd_roots) roots["amd"].push_back(psp::name(product));
    roots["other"] = json::Value::array();
    for (const OtherRoot& root : other_roots)
        roots["other"].push_back(
            {{"label", root.label}, {"product", psp::name(root.product)}, {"fingerprint", hex(root.fingerprint)}, {"emulated", root.emulated}});
    for (const PinnedChip& chip : pinned_chips)
        roots["pinned_chips"].push_back(
            {{"label", chip.label}, {"product", psp::name(chip.product)}, {"cek", hex(chip.cek)}, {"emulated", chip.emulated}});
    out["chips"] = chips_to_json(chips);
    out["minimum_build"] = minimum_build.text();
    if (accept_unproven_build) out["accept_unproven_build"] = true;
    out["guest_policy"] = {{"required", guest_policy_bit_names(required_bits)}, {"forbidden", guest_policy_bit_names(forbidden_bits)}};
    out["level"] = level;
    json::Value& kinds = out["evidence"] = json::Value::array();
    for (const EvidenceKind kind : evidence) kinds.push_back(name(kind));
    json::Value& list = out["references"] = json::Value::array();
    for (const ReferenceRule& rule : references) {
        json::Value one{{"name", rule.name}};
        std::visit(PutReference{one}, rule.value);
        list.push_back(std::move(one));
    }
    json::Value& held = out["secrets"] = json::Value::array();
    for (const SecretRule& rule : secrets) held.push_back(secret_to_json(rule));
    out["accepted_advisories"] = accepted_advisories;
    return out;
}

std::string target_text(const SecretRule& rule) {
    if (const auto* guid = std::get_if<measure::Guid>(&rule.target)) return guid->text();
    if (const auto* smbios = std::get_if<SmbiosTarget>(&rule.target)) return "smbios credential " + smbios->credential;
    return "file " + std::get<std::string>(rule.target);
}

std::vector<PolicyDifference> diff(const OwnerPolicy& left, const OwnerPolicy& right) {
    std::vector<PolicyDifference> out;
    const json::Value a = left.to_json(), b = right.to_json();
    compare(&a, &b, "", out);
    return out;
}

} // namespace sev::attest
