// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

#include "ovmf-measure/xen/guest_config.hpp"

/// Readers of the files in which people keep Xen guests. Each refuses by name whatever could change the initial image and is not understood here,
/// with line number where the format has lines; what cannot change it (disks, networks, names of events) is passed over. Each ends with `check`. None
/// evaluates anything, opens a file or follows a reference. Errors are Error{Fault::malformed} "<what>: line N: …".
namespace sev::measure {

inline constexpr std::size_t xen_config_limit_bytes = 1024 * 1024;

/// xl.cfg(5): KEY=VALUE with strings, numbers and lists. Source: Xen 4.17.7 docs/man/xl.cfg.5, tools/xl/xl_parse.c.
XenGuestConfig read_xl_config(std::string_view text, std::string_view what);
/// What `xl create -n FILE` prints, or libxl_domain_config_to_json: the configuration itself, or {"domid": …, "config": {…}}.
XenGuestConfig read_libxl_json(std::string_view text, std::string_view what);
/// libvirt's domain XML with type 'xen'. A document type declaration is refused, so there are no entities to expand. Source: libvirt 9.0
/// src/libxl/libxl_conf.c.
XenGuestConfig read_libvirt_xml(std::string_view text, std::string_view what);

} // namespace sev::measure
