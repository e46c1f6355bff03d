// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "console/command.hpp"
#include "launch/xen/capture.hpp"

/// How commands reach a paused Xen domain.
namespace sev::cli {

inline constexpr Argument domid_option{
    .name = "--domid", .kind = Kind::number, .metavar = "N", .help = "Id of the domain, created paused (xl create -p).", .required = true};

/// A domain that is only looked at, and what it takes. Throws Error{Fault::system} that says in one line what is missing where there is no Xen.
struct LookedAtDomain {
    std::unique_ptr<launch::xen::ForeignMemory> memory;
    std::unique_ptr<launch::xen::Toolstack> toolstack;
    std::unique_ptr<launch::xen::Domain> domain;
    launch::xen::DomainState state;
};
LookedAtDomain look_at_domain(const Arguments& given);

} // namespace sev::cli
