// SPDX-License-Identifier: Apache-2.0
#include "attest/owner_policy.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "attest/guest_policy_bits.hpp"
#include "attest/protocol/platform_evidence.hpp"
#include "attest/secret_archive.hpp"
#include "attest/smbios_secret.hpp"
#include "base/error.hpp"
#include "ovmf-measure/slot.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t path_limit_bytes = 4096;
constexpr std::size_t cmdline_limit_bytes = 64 * 1024;
constexpr std::size_t part_limit = 1024;

std::string named(json::Object& object, std::string_view key) { return checked_name(object.string(key), fmt::format("{}: {}", object.what(), key)); }

Path path(json::Object& object, std::string_view key) {
    std::string text = checked_text(object, key, path_limit_bytes);
    if (text.empty()) object.refuse(key, "is empty, want a path");
    return Path{std::move(text)};
}

/// Reads the list at `key`, each element with `read(value, what)`.
template <class Read>
auto list(json::Object& object, std::string_view key, Read&& read, std::size_t limit = OwnerPolicy::list_limit) {
    const json::Value& array = object.array(key, limit);
    std::vector<std::decay_t<decltype(read(array, std::string{}))>> out;
    for (std::size_t i = 0; i < array.size(); ++i) out.push_back(read(array[i], fmt::format("{}: {}[{}]", object.what(), key, i)));
    return out;
}

const std::string& string_value(const json::Value& value, const std::string& what) {
    if (!value.is_string()) throw Error{Fault::malformed, fmt::format("{}: is no string, want a string", what)};
    return value.get_ref<const std::string&>();
}

/// Refuses a value that an earlier element of the list has as well.
template <class List, class Projection>
void refuse_doubles(const List& values, Projection projection, const std::string& what) {
    std::set<std::string> seen;
    for (const auto& value : values)
        if (const std::string key = std::invoke(projection, value); !seen.insert(key).second)
            throw Error{Fault::malformed, fmt::format("{}: \"{}\" stands twice", what, printable(key))};
}

psp::Product product_value(const std::string& text, const std::string& what) {
    if (const auto product = psp::product_named(text)) return *product;
    throw Error{Fault::malformed, fmt::format("{}: product is \"{}\", want naples, rome, milan, genoa or turin", what, printable(text))};
}

OtherRoot other_root(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    OtherRoot out{.label = named(object, "label"), .product = product_value(object.string("product", 32), what),
                  .fingerprint = object.hex<32>("fingerprint"), .emulated = object.boolean("emulated")};
    object.done();
    if (std::ranges::any_of(psp::amd_roots(), [&](const psp::Root& root) { return root.fingerprint == out.fingerprint; }))
        object.refuse("fingerprint", "is that of an AMD root: name it by its product in \"amd\"");
    return out;
}

PinnedChip pinned_chip(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    PinnedChip out{.label = named(object, "label"),
                   .product = product_value(object.string("product", 32), what),
                   .cek = object.hex<32>("cek"),
                   .emulated = object.boolean("emulated")};
    object.done();
    return out;
}

void read_roots(OwnerPolicy& out, json::Object roots) {
    out.amd_roots = list(roots, "amd", [](const json::Value& v, const std::string& what) { return product_value(string_value(v, what), what); });
    out.other_roots = list(roots, "other", other_root);
    if (roots.has("pinned_chips")) out.pinned_chips = list(roots, "pinned_chips", pinned_chip);
    roots.done();
    refuse_doubles(out.pinned_chips, &PinnedChip::label, roots.what() + ": pinned_chips: label");
    refuse_doubles(out.pinned_chips, [](const PinnedChip& chip) { return hex(chip.cek); }, roots.what() + ": pinned_chips: cek");
    refuse_doubles(out.amd_roots, [](psp::Product p) { return std::string{psp::name(p)}; }, roots.what() + ": amd");
    refuse_doubles(out.other_roots, &OtherRoot::label, roots.what() + ": other: label");
    refuse_doubles(out.other_roots, [](const OtherRoot& r) { return hex(r.fingerprint); }, roots.what() + ": other: fingerprint");
}

AllowedChip chip(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    AllowedChip out{.label = named(object, "label"), .cek = {}, .id = {}};
    if (!object.has("cek"))
        object.refuse("cek", "is missing, want the SHA-256 fingerprint of the chip's CEK: a chip id alone is only what the host says");
    out.cek = object.hex<32>("cek");
    if (object.has("id")) out.id = object.hex<64>("id");
    object.done();
    return out;
}

std::optional<std::vector<AllowedChip>> read_chips(json::Object& object) {
    const json::Value& value = object.at("chips");
    if (value.is_string()) {
        if (value.get_ref<const std::string&>() == "any") return std::nullopt;
        object.refuse("chips", fmt::format("is \"{}\", want \"any\" or a list", printable(value.get_ref<const std::string&>())));
    }
    return list(object, "chips", chip);
}

std::uint32_t read_bits(json::Object& object, std::string_view key) {
    std::uint32_t bits = 0;
    for (const std::string& word : list(object, key, string_value, 32)) {
        const auto bit = guest_policy_bit(word);
        if (!bit) object.refuse(key, fmt::format("has \"{}\", want NODBG, NOKS, ES, NOSEND, DOMAIN or SEV", printable(word)));
        if ((bits & *bit) != 0) object.refuse(key, fmt::format("has {} twice", word));
        bits |= *bit;
    }
    return bits;
}

measure::CpuSignature read_cpu(json::Object& object) {
    const json::Value& value = object.at("cpu");
    return within(object.what() + ": cpu", [&] {
        if (value.is_string()) return measure::CpuSignature::of_qemu_model(value.get_ref<const std::string&>());
        json::Object cpu{value, "CPU"};
        const auto number = [&](std::string_view key) { return static_cast<unsigned>(cpu.number(key, 1024)); };
        const unsigned family = number("family"), model = number("model"), stepping = number("stepping");
        cpu.done();
        return measure::CpuSignature::of(family, model, stepping);
    });
}

/// The VMSA part that both recipes have. Without "vcpus" there are no VMSAs, and nothing may speak of them.
template <class Recipe>
void read_vmsas(json::Object& object, Recipe& out) {
    if (!object.has("vcpus")) {
        for (const std::string_view key : {"vmsa_profile", "cpu", "sev_features"})
            if (object.has(key)) object.refuse(key, "is there, but vcpus is not");
        return;
    }
    out.vcpus = static_cast<unsigned>(object.number("vcpus", measure::max_vcpus));
    if (out.vcpus == 0) object.refuse("vcpus", fmt::format("is 0, want 1 … {}, or no vcpus for plain SEV", measure::max_vcpus));
    out.vmsa_profile = object.string("vmsa_profile", 64);
    const measure::VmsaProfile& profile = within(
        object.what() + ": vmsa_profile", [&]() -> const auto& { return measure::vmsa_profile(*out.vmsa_profile); });
    if (profile.uses_signature() || object.has("cpu")) out.cpu = read_cpu(object);
    out.sev_features = object.number_or("sev_features", 0, UINT64_MAX);
}

QemuRecipe qemu_recipe(json::Object object) {
    QemuRecipe out;
    out.firmware = path(object, "firmware");
    if (object.has("kernel")) out.kernel = path(object, "kernel");
    if (object.has("initrd")) out.initrd = path(object, "initrd");
    out.cmdline = object.has("cmdline") ? checked_text(object, "cmdline", cmdline_limit_bytes) : "";
    if (!out.kernel)
        for (const std::string_view key : {"initrd", "cmdline"})
            if (object.has(key)) object.refuse(key, "is there, but kernel is not: without direct boot it is not measured");
    read_vmsas(object, out);
    object.done();
    return out;
}

ImageRecipe::Part image_part(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    ImageRecipe::Part out;
    out.label = named(object, "label");
    if (object.has("gpa")) out.gpa = psp::Gpa{object.number("gpa", UINT64_MAX)};
    out.file = path(object, "file");
    if (object.has("length")) {
        out.length_bytes = object.number("length", std::uint64_t{1} << 34);
        if (*out.length_bytes == 0 || *out.length_bytes % 16 != 0)
            object.refuse("length", fmt::format("is {}, want a multiple of 16 above 0", *out.length_bytes));
    }
    object.done();
    return out;
}

ImageRecipe image_recipe(json::Object object) {
    ImageRecipe out;
    out.parts = list(object, "parts", image_part, part_limit);
    if (out.parts.empty()) object.refuse("parts", "is empty, want at least one part");
    read_vmsas(object, out);
    object.done();
    return out;
}

ReferenceRule reference(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    ReferenceRule out;
    out.name = named(object, "name");
    if (int{object.has("digest")} + int{object.has("qemu")} + int{object.has("image")} + int{object.has("xen")} != 1)
        object.refuse("digest", ", qemu, image, xen: want exactly one of them");
    if (object.has("qemu")) out.value = qemu_recipe(object.object("qemu"));
    if (object.has("image")) out.value = image_recipe(object.object("image"));
    if (object.has("xen")) out.value = XenRecipe::from_json(object.object("xen"));
    if (object.has("digest")) {
        DigestReference known{.digest = object.hex<32>("digest"), .regions = {}};
        if (object.has("regions")) known.regions = list(object, "regions", region_from_json, LaunchDescriptor::region_limit);
        out.value = std::move(known);
    }
    object.done();
    return out;
}

SecretRule secret(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    SecretRule out;
    out.name = named(object, "name");
    if (int{object.has("guid")} + int{object.has("file_name")} + int{object.has("smbios")} != 1)
        object.refuse("guid", "and file_name, smbios: want exactly one of them");
    if (object.has("guid")) {
        const std::string text = object.string("guid", 64);
        const auto guid = measure::Guid::parse(text);
        if (!guid) object.refuse("guid", fmt::format("is \"{}\", want a GUID such as 736869e5-84f0-4973-92ec-06879ce3da0b", printable(text)));
        out.target = *guid;
    } else if (object.has("smbios")) {
        json::Object smbios = object.object("smbios");
        SmbiosTarget target;
        target.credential = within(smbios.what(), [&] { return checked_credential_name(smbios.string("credential", 256)); });
        target.slot_bytes = static_cast<std::size_t>(smbios.number("slot_bytes", measure::SmbiosSlot::limit_bytes));
        if (target.slot_bytes < measure::SmbiosSlot::least_bytes || target.slot_bytes % 16 != 0)
            smbios.refuse("slot_bytes", fmt::format("is {}, want a multiple of 16 from {} to {}", target.slot_bytes, measure::SmbiosSlot::least_bytes,
                                                    measure::SmbiosSlot::limit_bytes));
        smbios.done();
        out.target = target;
    } else {
        out.target = within(what, [&] { return checked_secret_file_name(object.string("file_name", 256)); });
    }
    out.path = path(object, "path");
    if (object.has("when")) {
        json::Object when = object.object("when");
        if (when.has("references"))
            out.references = list(when, "references", [](const json::Value& v, const std::string& w) { return string_value(v, w); });
        if (when.has("es")) {
            out.needs_es = when.boolean("es");
            if (!out.needs_es) when.refuse("es", "is false, want true or no such key: a secret cannot ask for a guest without SEV-ES");
        }
        out.level = static_cast<unsigned>(when.number_or("level", 0, highest_level));
        when.done();
    }
    object.done();
    return out;
}

void read_validity(OwnerPolicy& out, json::Object validity) {
    out.not_before = parse_time(validity.string("not_before", 64), validity.what() + ": not_before");
    out.not_after = parse_time(validity.string("not_after", 64), validity.what() + ": not_after");
    validity.done();
    if (out.not_after < out.not_before)
        validity.refuse("not_after", fmt::format("is {}, before not_before {}", text(out.not_after), text(out.not_before)));
}

void check_whole(const OwnerPolicy& policy, const std::string& what) {
    if (policy.chips) refuse_doubles(*policy.chips, [](const AllowedChip& c) { return hex(c.cek); }, what + ": chips: cek");
    refuse_doubles(policy.evidence, [](EvidenceKind k) { return std::string{name(k)}; }, what + ": evidence");
    refuse_doubles(policy.references, &ReferenceRule::name, what + ": references: name");
    refuse_doubles(policy.secrets, &SecretRule::name, what + ": secrets: name");
    refuse_doubles(policy.secrets, [](const SecretRule& s) { return target_text(s); }, what + ": secrets: guid, file_name or smbios");
    const SmbiosTarget* first = nullptr;
    for (const SecretRule& rule : policy.secrets) {
        const auto* smbios = std::get_if<SmbiosTarget>(&rule.target);
        if (!smbios) continue;
        if (first && first->slot_bytes != smbios->slot_bytes)
            throw Error{Fault::malformed, fmt::format("{}: secrets: smbios: slot_bytes is {} and {}, want one size: a guest has one such slot", what,
                                                      first->slot_bytes, smbios->slot_bytes)};
        first = smbios;
    }
    refuse_doubles(policy.accepted_advisories, [](const std::string& id) { return id; }, what + ": accepted_advisories");
    for (const SecretRule& rule : policy.secrets)
        for (const std::string& wanted : rule.references.value_or(std::vector<std::string>{}))
            if (std::ranges::find(policy.references, wanted, &ReferenceRule::name) == policy.references.end())
                throw Error{Fault::malformed, fmt::format("{}: secrets: \"{}\" waits for reference \"{}\", which is not in references", what,
                                                          rule.name, printable(wanted))};
}

} // namespace

OwnerPolicy OwnerPolicy::from_json(const json::Value& value, std::string_view what, Path base) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    OwnerPolicy out;
    out.owner = named(object, "owner");
    read_validity(out, object.object("validity"));
    read_roots(out, object.object("roots"));
    out.chips = read_chips(object);
    out.minimum_build = psp::Build::parse(object.string("minimum_build", 16), object.what() + ": minimum_build");
    out.accept_unproven_build = object.boolean_or("accept_unproven_build", false);
    json::Object bits = object.object("guest_policy");
    out.required_bits = read_bits(bits, "required");
    out.forbidden_bits = read_bits(bits, "forbidden");
    bits.done();
    out.level = static_cast<unsigned>(object.number("level", highest_level));
    out.evidence = list(object, "evidence", [](const json::Value& v, const std::string& w) {
        const auto kind = evidence_kind_named(string_value(v, w));
        if (!kind) throw Error{Fault::malformed, fmt::format("{}: is \"{}\", want measurement or report", w, printable(string_value(v, w)))};
        return *kind;
    });
    out.references = list(object, "references", reference);
    if (object.has("secrets")) out.secrets = list(object, "secrets", secret);
    if (object.has("accepted_advisories"))
        out.accepted_advisories =
            list(object, "accepted_advisories", [](const json::Value& v, const std::string& w) { return checked_name(string_value(v, w), w); });
    object.done();
    check_whole(out, object.what());
    out.base = std::move(base);
    return out;
}

OwnerPolicy OwnerPolicy::parse(std::string_view text, std::string_view what, Path base) {
    return from_json(json::parse(text, what, {.bytes = limit_bytes, .depth = 16}), what, std::move(base));
}

OwnerPolicy OwnerPolicy::load(const Path& path) {
    return parse(read_text(path, limit_bytes), path.string(), path.parent_path());
}

std::vector<psp::Root> OwnerPolicy::roots() const {
    std::vector<psp::Root> out;
    for (const psp::Root& root : psp::amd_roots())
        if (std::ranges::find(amd_roots, root.product) != amd_roots.end()) out.push_back(root);
    for (const OtherRoot& root : other_roots)
        out.push_back({.label = root.label, .product = root.product, .fingerprint = root.fingerprint, .amd = false});
    for (const PinnedChip& chip : pinned_chips)
        out.push_back({.label = chip.label + " (CEK pinned by the owner, not AMD)",
                       .product = chip.product,
                       .fingerprint = chip.cek,
                       .amd = false,
                       .pinned_cek = true});
    return out;
}

psp::Policy OwnerPolicy::session_policy() const noexcept {
    return {required_bits | std::uint32_t{minimum_build.major} << 16 | std::uint32_t{minimum_build.minor} << 24};
}

} // namespace sev::attest
