// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/machine.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace sev::probe {
namespace {

constexpr std::uint64_t feature_auto_translated = 1U << 2, feature_dom0 = 1U << 11; // xen/include/public/features.h

bool is(const Reading<std::string>& reading, std::string_view text) { return reading.value() && *reading.value() == text; }

/// The hypervisor by the vendor word of its own leaf, or nothing.
std::string hypervisor_word(const CpuidLeaves& cpuid) {
    const auto leaf = cpuid.find(leaf_hypervisor);
    if (!leaf) return {};
    std::string out;
    for (const std::uint32_t word : {leaf->ebx, leaf->ecx, leaf->edx})
        for (unsigned i = 0; i < 4; ++i)
            if (const char c = static_cast<char>(word >> (8 * i)); c != 0) out += c;
    for (const auto& [word, product] : {std::pair{"KVMKVMKVM", "KVM"},
                                        {"XenVMMXenVMM", "Xen"},
                                        {"Microsoft Hv", "Hyper-V"},
                                        {"VMwareVMware", "VMware"},
                                        {"TCGTCGTCGTCG", "QEMU's TCG"}})
        if (out == word) return product;
    return printable(out, 12);
}

void place_xen(Machine& out, const Probe& probe) {
    out.hypervisor = fmt::format("Xen {}", probe.xen_version.value() ? printable(*probe.xen_version.value(), 32) : "of unknown version");
    const bool capable = probe.xen_capabilities.value() && probe.xen_capabilities.value()->find("control_d") != std::string::npos;
    const bool featured = probe.xen_features.value() && (*probe.xen_features.value() & feature_dom0) != 0;
    if (!capable && !featured) {
        out.place = Place::xen_guest;
        out.place_because = "/sys/hypervisor says xen, and neither its features nor /proc/xen/capabilities say that this is dom0";
        return;
    }
    out.place = Place::xen_dom0;
    out.place_because = capable ? "/proc/xen/capabilities says control_d" : "Xen's features say dom0";
    if (is(probe.xen_guest_type, "PV"))
        out.dom0 = Dom0Kind::pv;
    else if (is(probe.xen_guest_type, "PVH"))
        out.dom0 = Dom0Kind::pvh;
    else if (probe.xen_features.value())
        out.dom0 = (*probe.xen_features.value() & feature_auto_translated) != 0 ? Dom0Kind::pvh : Dom0Kind::pv;
}

void find_place(Machine& out, const Probe& probe, const CpuidLeaves* instruction) {
    if (is(probe.xen_type, "xen")) return place_xen(out, probe);
    const bool flagged = probe.cpu_flags.value() && has_word(*probe.cpu_flags.value(), "hypervisor");
    const auto features = instruction ? instruction->find(1) : std::nullopt;
    if (!features && !probe.cpu_flags.value()) {
        out.place_because = "neither CPUID leaf 1 nor /proc/cpuinfo could be read";
        return;
    }
    if (flagged || (features && (features->ecx >> 31 & 1) != 0)) {
        out.place = Place::virtual_machine;
        out.hypervisor = instruction ? hypervisor_word(*instruction) : std::string{};
        if (out.hypervisor.empty()) out.hypervisor = "an unnamed hypervisor";
        out.place_because = "the hypervisor bit of CPUID leaf 1 is set";
        return;
    }
    out.place = Place::bare_metal;
    out.place_because = "the hypervisor bit of CPUID leaf 1 is clear, and there is no /sys/hypervisor/type xen";
}

/// Under Xen only the raw policy is the CPU's own word. Elsewhere the instruction, else the device.
void choose_cpuid(Machine& out, const Probe& probe, const CpuidLeaves* instruction) {
    const CpuidLeaves* const device = probe.cpuid_device.value();
    const auto take = [&](const CpuidLeaves* cpuid, std::string_view source, Confidence confidence) {
        out.cpuid = cpuid;
        out.cpuid_source = source;
        out.cpuid_confidence = confidence;
    };
    if (out.place == Place::xen_dom0 && probe.cpuid_xen_raw.value())
        return take(probe.cpuid_xen_raw.value(), "Xen's raw CPU policy", Confidence::direct);
    // dom0's user space without CPUID faulting sees the CPU; with it, Xen's policy
    if (out.place == Place::xen_dom0 && instruction) return take(instruction, "CPUID instruction in dom0", Confidence::inferred);
    const Confidence confidence = out.place == Place::bare_metal ? Confidence::direct : Confidence::reported;
    if (instruction) return take(instruction, out.place == Place::bare_metal ? "CPUID instruction" : "CPUID as the hypervisor shows it", confidence);
    if (device) return take(device, out.place == Place::bare_metal ? "/dev/cpu/0/cpuid" : "CPUID as the hypervisor shows it", confidence);
}

void read_leaf(Machine& out, const Probe& probe) {
    if (!out.cpuid) {
        out.leaf = unknown(fmt::format("CPUID could not be read: {}", printable(probe.cpuid_instruction.why_not())));
        return;
    }
    const std::uint32_t highest = out.cpuid->highest(leaf_extended);
    if (highest == 0) {
        out.leaf = unknown(fmt::format("{} does not give the highest extended leaf", out.cpuid_source));
        return;
    }
    if (!out.vendor_known) {
        out.leaf = unknown(fmt::format("{} does not give the CPU's vendor, so its leaf 0x8000001f has no known meaning", out.cpuid_source));
        return;
    }
    if (!out.cpu_is_amds()) {
        out.leaf = fact(false, fmt::format("the CPU's vendor is {}; SME and SEV are AMD's", out.vendor), out.cpuid_source, out.cpuid_confidence);
        return;
    }
    const bool hidden_possible = out.place == Place::virtual_machine || out.place == Place::xen_guest ||
                                 (out.place == Place::xen_dom0 && out.cpuid_confidence != Confidence::direct);
    const auto leaf = out.cpuid->find(leaf_encryption);
    if (!leaf && highest >= leaf_encryption) {
        out.leaf = unknown(fmt::format("{} lacks leaf 0x8000001f in this record", out.cpuid_source));
        return;
    }
    const bool empty = !leaf || (leaf->eax == 0 && leaf->ebx == 0 && leaf->ecx == 0 && leaf->edx == 0);
    if (empty && hidden_possible) {
        out.leaf = unknown(out.place == Place::xen_dom0 ? "Xen hides leaf 0x8000001f from dom0, and its raw policy could not be read"
                                                        : "the hypervisor shows no leaf 0x8000001f, whatever the CPU has");
        return;
    }
    if (!leaf) {
        out.leaf = fact(false, fmt::format("the highest extended CPUID leaf is 0x{:08x}, so there is no 0x8000001f", highest), out.cpuid_source,
                        out.cpuid_confidence);
        return;
    }
    out.leaf = fact(true, fmt::format("leaf 0x8000001f is {:08x} {:08x} {:08x} {:08x}", leaf->eax, leaf->ebx, leaf->ecx, leaf->edx), out.cpuid_source,
                    out.cpuid_confidence);
    out.encryption = EncryptionLeaf::decode(*leaf);
}

} // namespace

std::string_view name(Truth truth) {
    switch (truth) {
    case Truth::yes: return "yes";
    case Truth::no: return "no";
    case Truth::unknown: return "unknown";
    case Truth::not_applicable: return "not applicable";
    }
    return "unknown";
}

std::string_view name(Confidence confidence) {
    switch (confidence) {
    case Confidence::direct: return "direct";
    case Confidence::reported: return "reported";
    case Confidence::inferred: return "inferred";
    case Confidence::none: return "none";
    }
    return "none";
}

std::string_view name(Place place) {
    switch (place) {
    case Place::bare_metal: return "bare metal";
    case Place::xen_dom0: return "Xen dom0";
    case Place::xen_guest: return "Xen guest";
    case Place::virtual_machine: return "virtual machine";
    case Place::unknown: return "unknown";
    }
    return "unknown";
}

Machine machine_of(const Probe& probe) {
    Machine out;
    const CpuidLeaves* const instruction = probe.cpuid_instruction.value();
    find_place(out, probe, instruction ? instruction : probe.cpuid_device.value());
    choose_cpuid(out, probe, instruction);
    if (out.cpuid) {
        const std::string vendor = out.cpuid->vendor();
        out.vendor_known = !vendor.empty();
        out.amd = vendor == "AuthenticAMD";
        out.hygon = vendor == "HygonGenuine";
        out.vendor = printable(vendor, 12);
        out.brand = printable(out.cpuid->brand(), 48);
    }
    read_leaf(out, probe);
    return out;
}

std::optional<XenRelease> xen_release(std::string_view version) {
    XenRelease out;
    const char* const last = version.data() + version.size();
    const auto major = std::from_chars(version.data(), last, out.major);
    if (major.ec != std::errc{} || major.ptr == last || *major.ptr != '.') return std::nullopt;
    const auto minor = std::from_chars(major.ptr + 1, last, out.minor);
    if (minor.ec != std::errc{}) return std::nullopt;
    return out;
}

bool has_word(std::string_view words, std::string_view word) {
    while (!words.empty()) {
        const auto end = std::min(words.find(' '), words.size());
        if (words.substr(0, end) == word) return true;
        words.remove_prefix(std::min(end + 1, words.size()));
    }
    return false;
}

bool kernel_made_active(const Probe& probe, std::string_view feature) {
    constexpr std::string_view lead = "Memory Encryption Features active:";
    if (!probe.kernel_log.value()) return false;
    return std::ranges::any_of(*probe.kernel_log.value(), [&](const std::string& line) {
        const auto at = line.find(lead);
        return at != std::string::npos && has_word(std::string_view{line}.substr(at + lead.size()), feature);
    });
}

bool log_says(const Probe& probe, std::string_view text) {
    return probe.kernel_log.value() &&
           std::ranges::any_of(*probe.kernel_log.value(), [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

} // namespace sev::probe
