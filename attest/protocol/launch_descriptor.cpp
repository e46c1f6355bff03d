// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/launch_descriptor.hpp"

#include <fmt/format.h>

namespace sev::attest {
namespace {

constexpr std::size_t text_limit_bytes = 1024;

std::optional<std::string> optional_text(json::Object& object, std::string_view key) {
    if (!object.has(key)) return std::nullopt;
    return checked_text(object, key, text_limit_bytes);
}

} // namespace

std::string_view name(GuestKind kind) {
    switch (kind) {
    case GuestKind::qemu: return "qemu";
    case GuestKind::xen_pvh: return "xen-pvh";
    case GuestKind::xen_hvm: return "xen-hvm";
    case GuestKind::ovmf_pvh: return "ovmf-pvh";
    case GuestKind::image: return "image";
    }
    return "undefined";
}

std::optional<GuestKind> guest_kind_named(std::string_view wanted) {
    for (const auto kind : {GuestKind::qemu, GuestKind::xen_pvh, GuestKind::xen_hvm, GuestKind::ovmf_pvh, GuestKind::image})
        if (name(kind) == wanted) return kind;
    return std::nullopt;
}

Region region_from_json(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    Region out;
    out.label = checked_name(object.string("label"), what + ": label");
    if (object.has("gpa")) out.gpa = psp::Gpa{object.number("gpa", UINT64_MAX)};
    out.length_bytes = object.number("length", UINT64_MAX);
    out.sha256 = object.hex<32>("sha256");
    if (object.has("source")) out.source = checked_text(object, "source", text_limit_bytes);
    object.done();
    return out;
}

json::Value to_json(const Region& region) {
    json::Value out = json::Value::object();
    out["label"] = region.label;
    if (region.gpa) out["gpa"] = fmt::format("0x{:x}", psp::raw(*region.gpa));
    out["length"] = region.length_bytes;
    out["sha256"] = hex(region.sha256);
    if (!region.source.empty()) out["source"] = region.source;
    return out;
}

LaunchDescriptor LaunchDescriptor::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    LaunchDescriptor out;
    const std::string kind = object.string("kind", 32);
    const auto known = guest_kind_named(kind);
    if (!known) object.refuse("kind", fmt::format("is \"{}\", want qemu, xen-pvh, xen-hvm, ovmf-pvh or image", printable(kind)));
    out.kind = *known;
    const json::Value& regions = object.array("regions", region_limit);
    for (std::size_t i = 0; i < regions.size(); ++i) out.regions.push_back(region_from_json(regions[i], fmt::format("{}: regions[{}]", what, i)));
    if (object.has("vcpus")) {
        out.vcpus = static_cast<unsigned>(object.number("vcpus", vcpu_limit));
        if (*out.vcpus == 0) object.refuse("vcpus", fmt::format("is 0, want 1 … {}", vcpu_limit));
    }
    if (object.has("vmsa_profile")) {
        json::Object profile = object.object("vmsa_profile");
        out.vmsa_profile = VmsaProfileName{.name = checked_name(profile.string("name"), profile.what() + ": name"),
                                           .version = static_cast<unsigned>(profile.number("version", UINT32_MAX))};
        profile.done();
    }
    out.page_order = optional_text(object, "page_order");
    out.xen_version = optional_text(object, "xen_version");
    out.toolstack_version = optional_text(object, "toolstack_version");
    object.done();
    return out;
}

json::Value LaunchDescriptor::to_json() const {
    json::Value out = with_format(format, version);
    out["kind"] = name(kind);
    json::Value& list = out["regions"] = json::Value::array();
    for (const Region& region : regions) list.push_back(attest::to_json(region));
    if (vcpus) out["vcpus"] = *vcpus;
    if (vmsa_profile) out["vmsa_profile"] = {{"name", vmsa_profile->name}, {"version", vmsa_profile->version}};
    if (page_order) out["page_order"] = *page_order;
    if (xen_version) out["xen_version"] = *xen_version;
    if (toolstack_version) out["toolstack_version"] = *toolstack_version;
    return out;
}

} // namespace sev::attest
