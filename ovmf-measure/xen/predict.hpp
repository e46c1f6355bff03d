// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>

#include "ovmf-measure/xen/image.hpp"

namespace sev::measure {

/// A file's bytes, and its name for messages and for `source`.
struct XenFile {
    ByteView bytes;
    std::string name;
};
/// The files of a guest; all outlive the image. PVH: kernel, and ramdisk if the configuration has one. HVM: hvmloader and firmware, and the modules
/// the configuration has.
struct XenFiles {
    std::optional<XenFile> kernel, ramdisk;
    std::optional<XenFile> hvmloader, firmware, acpi_module, smbios_module;
};

/// predict_xen returns the initial memory of a guest that the given release of Xen builds from these files, byte for byte.
///
/// `acpi` PVH: ACPI pages for these vCPUs, of that release. HVM: not used.
/// Throws Error{Fault::usage} for a configuration that cannot be predicted, and says why (see `check`, `xen_rules`): a file that is missing or
/// surplus, a reference of other vCPUs or another release, an image that does not fit into the guest's low memory; Error{Fault::malformed} that names
/// file and offset for a kernel, hvmloader or ramdisk that Xen would refuse or that does not mean one thing only.
/// Source: Xen 4.17.7, tools/libs/guest/xg_dom_*.c, tools/libs/light/libxl_{dom,x86,x86_acpi}.c.
XenImage predict_xen(const XenGuestConfig& config, const XenFiles& files, XenVersion version, const AcpiReference* acpi);

} // namespace sev::measure
