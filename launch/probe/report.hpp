// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <optional>
#include <span>
#include <vector>

#include "base/json.hpp"
#include "launch/probe/machine.hpp"
#include "psp/structures.hpp"

namespace sev::probe {

/// What has to be there for an attested, encrypted Xen guest, from the bottom up.
enum class Layer { silicon, bios, psp, xen, toolstack, guest_kernel };
std::string_view name(Layer layer); // "silicon", "BIOS", "PSP firmware", "Xen", "toolstack", "guest kernel"

/// One of SME, TSME, SEV, SEV-ES, SEV-SNP, in its four stages.
struct Feature {
    std::string_view name;
    Fact silicon;     // the CPU has it
    Fact enabled;     // the platform firmware (BIOS) turned it on
    Fact initialised; // the PSP's firmware (SEV) or the kernel (SME) set it up
    Fact usable;      // it can be used now, on this running system
    /// "usable now", "initialised", "firmware-enabled", "in silicon", "absent" or "unknown"; for TSME "on", "off", "unknown" or "absent".
    std::string_view state() const;
    /// The fact that decides the state: the first stage that is not yes, or the last.
    const Fact& deciding() const;
};

/// A thing that `status` looks at, by the id under which docs/checks/<id>.md explains it.
struct CheckInfo {
    std::string_view id;
    std::string_view title;  // what is so when it passes
    std::string_view remedy; // what to do when it does not
};
/// Every check there is, in the order of the report.
std::span<const CheckInfo> all_checks();
const CheckInfo* find_check(std::string_view id);

struct CheckResult {
    const CheckInfo* info;
    Fact fact;             // yes: passed. no: failed. unknown. not applicable: nothing to check here
    bool expected = true;  // false: its failing is no fault of this machine (it has no SNP), so text leaves it out
    std::string remedy;    // info's, unless this case has a better one
};

struct LayerResult {
    Layer layer;
    Fact fact; // yes: in place. no: missing
};

/// The ladder (L0 … L5) of what xen-sev can do on this host.
struct Level {
    unsigned level = 0;
    std::string because;
    /// What keeps it from being known to be higher; empty when nothing does.
    std::string might_be_higher;
};
inline constexpr unsigned highest_level = 5;
/// First level whose guests' memory is encrypted.
inline constexpr unsigned first_encrypting_level = 3;
/// "software-measured launch on stock Xen; no encryption". Throws Error{Fault::bug} above 5.
std::string_view level_text(unsigned level);

/// What the PSP said of itself.
struct PspReport {
    psp::PlatformStatus status;
    bool genuine_device = false; // the kernel made /dev/sev
};

/// The Xen interface's own status answer (coco op 0), as in the RFC of 2025-05-16.
struct CocoStatus {
    std::uint32_t platform = 0, platform_flags = 0, flags = 0;
    bool is_sev() const noexcept { return platform == 1; }
    bool supported() const noexcept { return (flags & 1) != 0; }
    bool unsafe() const noexcept { return (flags & 2) != 0; }
    bool es() const noexcept { return (platform_flags & 1) != 0; }
    bool snp() const noexcept { return (platform_flags & 2) != 0; }
};
std::optional<CocoStatus> coco_status_of(const Probe& probe);

struct Report {
    Machine machine; // points into the probe
    std::array<Feature, 5> features; // SME, TSME, SEV, SEV-ES, SEV-SNP
    std::optional<PspReport> psp;
    std::optional<CocoStatus> coco;
    Level level;
    std::array<LayerResult, 6> layers;
    std::vector<CheckResult> checks;
    std::vector<std::string> notes; // what the reader has to know before anything else

    const Feature& feature(std::string_view name) const;
    const CheckResult& check(std::string_view id) const;
    /// The first layer known to be missing, from the bottom up; nullptr when none is.
    const LayerResult* first_missing() const;
};

/// assess says what a probe means. Pure: reads no clock, file or device, and gives the same report for the same probe. The report points into
/// `probe`, which must outlive it. It decides nothing by CPU model, and believes no CPUID leaf above the maximum. Sources: SEV API (AMD 55766); AMD64
/// APM volume 3, Fn8000_001F; Linux's Documentation/arch/x86/amd-memory-encryption.rst and sysfs-driver-ccp; for Xen its source, release 4.17
/// to 4.22.
Report assess(const Probe& probe);

/// For eyes: at most 80 columns. `explain`: every fact with its source, and what SME and TSME are.
std::string render(const Probe& probe, const Report& report, bool explain);
/// docs/schemas/sevctl-status.schema.json, without "format" and "version".
void add_json(json::Value& out, const Probe& probe, const Report& report);

/// One paragraph: how SME and TSME differ.
std::string_view sme_versus_tsme();

} // namespace sev::probe
