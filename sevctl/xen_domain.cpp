// SPDX-License-Identifier: Apache-2.0
#include "sevctl/xen_domain.hpp"

#include <fmt/format.h>

namespace sev::cli {
namespace {

/// The keeper lies beside this program in the build tree, and under libexec once installed.
Path keeper() {
    constexpr std::string_view name = "xen-sev-keeper";
    std::error_code error;
    const Path program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (!error && std::filesystem::exists(program.parent_path() / name, error)) return program.parent_path() / name;
    return Path{XEN_SEV_LIBEXEC_DIRECTORY} / name;
}

} // namespace

LookedAtDomain look_at_domain(const Arguments& given) {
    const auto domid = static_cast<std::uint32_t>(given.number(domid_option.name, 1, 0x7FEF));
    LookedAtDomain out;
    out.memory = launch::xen::open_foreign_memory();
    out.toolstack = launch::xen::keeper_toolstack({.program = keeper()}, launch::xen::direct_starter());
    out.domain = out.toolstack->adopt(domid, false);
    if (!out.domain) throw Error{Fault::usage, fmt::format("domain {}: there is none", domid), "xl list shows the domains"};
    out.state = out.domain->state();
    return out;
}

} // namespace sev::cli
