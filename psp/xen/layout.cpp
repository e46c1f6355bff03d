// SPDX-License-Identifier: Apache-2.0
#include "psp/xen/layout.hpp"

#include <array>
#include <cerrno>
#include <cstring>

namespace sev::psp::xen {
namespace {

struct LayoutName {
    Layout layout;
    std::string_view name;
};
constexpr std::array layouts{LayoutName{Layout::rfc_2025_05, "rfc-2025-05"}, LayoutName{Layout::vates_a, "vates-a"},
                             LayoutName{Layout::vates_b, "vates-b"}};

constexpr std::uint32_t flag_supported = 1U << 0, flag_unsafe = 1U << 1, flag_owned = 1U << 31;

} // namespace

std::string_view name(Layout layout) {
    for (const LayoutName& one : layouts)
        if (one.layout == layout) return one.name;
    throw Error{Fault::bug, "a coco layout without a name"};
}

std::optional<Layout> layout_named(std::string_view name) {
    for (const LayoutName& one : layouts)
        if (one.name == name) return one.layout;
    return std::nullopt;
}

CocoStatus CocoStatus::parse_rfc(wire::View<rfc_size> v) {
    const std::uint32_t platform = wire::le32<0>(v), able = wire::le32<4>(v), flags = wire::le32<8>(v);
    if (platform > static_cast<std::uint32_t>(Platform::arm_rme))
        throw Error{Fault::malformed, fmt::format("coco status: 00h platform is {}, want 0 to 3", platform)};
    return {.platform = Platform{platform},
            .es = (able & 1U) != 0,
            .snp = (able & 2U) != 0,
            .tio = (able & 4U) != 0,
            .supported = (flags & flag_supported) != 0,
            .unsafe = (flags & flag_unsafe) != 0,
            .features = wire::le32<12>(v),
            .version_major = wire::le32<16>(v),
            .version_minor = wire::le32<20>(v),
            .version_build = std::nullopt,
            .owned = false};
}

CocoStatus CocoStatus::parse_vates(wire::View<vates_size> v) {
    CocoStatus status = parse_rfc(wire::part<0, rfc_size>(v));
    status.version_build = wire::le32<24>(v);
    status.owned = (wire::le32<8>(v) & flag_owned) != 0;
    return status;
}

namespace wire_format {

std::string_view name(Operation operation) {
    switch (operation) {
    case Operation::platform_status: return "platform_status";
    case Operation::prepare_initial_memory: return "domain_prepare_initial_mem";
    case Operation::attestation_report: return "domain_attestation_report";
    case Operation::platform_certificates: return "platform_get_certificates";
    case Operation::signing_request: return "platform_get_certificate_signing_request";
    case Operation::regenerate_certificate: return "platform_regenerate_certificate";
    case Operation::import_certificate: return "platform_import_certificate";
    case Operation::finish_initial_memory: return "domain_finish_initial_mem";
    case Operation::update_secrets: return "domain_update_secrets";
    case Operation::set_secrets_area: return "domain_set_secrets_area";
    case Operation::snp_platform_limits: return "SEV platform limits";
    }
    throw Error{Fault::bug, "a coco operation without a name"};
}

void expect_success(Operation operation, int error_number) {
    if (error_number == 0) return;
    const std::string what = fmt::format("coco operation {} ({})", static_cast<std::uint32_t>(operation), name(operation));
    struct Meaning {
        std::string_view text, remedy;
    };
    const Meaning meaning = [&]() -> Meaning {
        switch (error_number) {
        case ENOSYS: return {"this Xen does not have it", "sevctl status says which level this host has"};
        case EPERM:
        case EACCES: return {"only the hardware domain may ask", "run it in dom0, as root"};
        case ENOENT:
        case ESRCH: return {"there is no such domain", "xl list shows the domains"};
        case EOPNOTSUPP: return {"the domain is no coco domain", "make it with coco = 1 in its xl.cfg"};
        default: return {"the hypervisor refused", "xl dmesg may say more"};
        }
    }();
    throw Error{Fault::system, fmt::format("{}: {} ({})", what, meaning.text, std::strerror(error_number)), std::string{meaning.remedy}};
}

} // namespace wire_format
} // namespace sev::psp::xen
