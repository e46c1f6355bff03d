// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <compare>
#include <string>
#include <string_view>

namespace sev::measure {

/// Release of Xen whose toolstack builds a guest: "4.17.7". What a distribution appends ("4.17.7+13-g2445b30a44-0+deb12u1", "4.18.0-rc") is no part
/// of it.
struct XenVersion {
    unsigned major = 0, minor = 0, patch = 0;
    /// Throws Error{Fault::usage} "<what> is …, want a version such as 4.17.7": also for a release candidate or an -unstable version, which follows
    /// no release's rules.
    static XenVersion parse(std::string_view text, std::string_view what);
    std::string text() const;
    friend auto operator<=>(const XenVersion&, const XenVersion&) = default;
};

enum class XenGuestType { pvh, hvm };
std::string_view name(XenGuestType type); // "pvh", "hvm"

/// What differs between releases in the bytes of a guest's initial image.
struct XenRules {
    bool gunzips_ramdisk = false;      // until 4.19: the builder unpacks a gzip ramdisk
    bool acpi_is_nvs = false;          // from 4.21: ACPI ranges have type 4 (NVS) in the memory map, before type 3
    bool console_has_connection = false; // from 4.21: the console page's `connection` byte is 1 (that page is not measured)
    bool virt_base_needed = false;     // until 4.17: a kernel with a PADDR_OFFSET note and no VIRT_BASE note is refused
    unsigned lzma_memory_mib = 256;    // an xz or lzma kernel that needs more is refused: 128 until 4.17
};
/// xen_rules returns the rules of a release. Throws Error{Fault::usage} that says why for one whose images cannot be predicted: older than 4.17 or
/// newer than 4.22 (nobody has looked), and for PVH 4.17.0 to 4.17.5, 4.18.0 to 4.18.3 and 4.19.0, whose ACPI pages hold left-over bytes of the
/// toolstack's heap (XSA-464).
/// Source: Xen 4.17 to 4.22, tools/libs/guest and tools/libs/light.
XenRules xen_rules(XenVersion version, XenGuestType type);

} // namespace sev::measure
