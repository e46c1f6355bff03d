// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "launch/probe/fact.hpp"
#include "launch/probe/probe.hpp"

namespace sev::probe {

/// Where the probe was made. Everything else is read differently in each: what a register says to Linux on bare metal proves nothing under a
/// hypervisor.
enum class Place { bare_metal, xen_dom0, xen_guest, virtual_machine, unknown };
std::string_view name(Place place); // "bare metal", "Xen dom0" …

enum class Dom0Kind { pv, pvh, unknown };

/// The machine as far as the probe tells, and the best source for its CPUID leaves.
struct Machine {
    Place place = Place::unknown;
    std::string place_because;
    Dom0Kind dom0 = Dom0Kind::unknown;
    std::string hypervisor;             // "Xen 4.17.4", "KVM"; empty on bare metal

    bool vendor_known = false, amd = false, hygon = false;
    std::string vendor, brand;          // as CPUID has them, made printable
    const CpuidLeaves* cpuid = nullptr; // of the best source; nullptr: there is none
    std::string cpuid_source;           // "CPUID instruction", "Xen's raw CPU policy" …
    Confidence cpuid_confidence = Confidence::none;

    /// yes: `encryption` is set. no: the CPU has no such leaf. unknown: see the reason.
    Fact leaf;
    std::optional<EncryptionLeaf> encryption;

    /// May be judged as host: bare metal, dom0, or a virtual machine that was given a PSP.
    bool can_host() const noexcept { return place == Place::bare_metal || place == Place::xen_dom0; }
    bool cpu_is_amds() const noexcept { return amd || hygon; }
};

Machine machine_of(const Probe& probe);

/// Xen's release out of "4.17.4-pre"; nullopt when the text begins otherwise.
struct XenRelease {
    unsigned major = 0, minor = 0;
    friend auto operator<=>(const XenRelease&, const XenRelease&) = default;
};
std::optional<XenRelease> xen_release(std::string_view version);

/// Whether `words` (blank-separated) has this one.
bool has_word(std::string_view words, std::string_view word);
/// Whether the kernel log says "Memory Encryption Features active:" and then this word, "SME" or "SEV". Older kernels begin the line with AMD, newer
/// ones the list.
bool kernel_made_active(const Probe& probe, std::string_view feature);
/// Whether the probe's kernel log was read and has a line with this text.
bool log_says(const Probe& probe, std::string_view text);

} // namespace sev::probe
