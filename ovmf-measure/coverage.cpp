// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "base/error.hpp"
#include "ovmf-measure/launch_digest.hpp"
#include "ovmf-measure/variable_store.hpp"

namespace sev::measure {

namespace {

constexpr std::size_t flash_block_bytes = 4096; // QEMU's flash takes multiples only

/// Why the firmware has no room for a hash table; empty when it has.
std::string hash_block_problem(const FirmwareTable& table) {
    if (!table.hash_block) return table.present ? "the firmware's GUID table names no SEV hash table block" : "the firmware has no GUID table "
                                                                                                              "at its end";
    if (table.hash_block->base == 0) return "the firmware's SEV hash table block has base 0: this build does not support kernel hashes";
    if (table.hash_block->size_bytes < KernelHashes::wire_size) {
        return fmt::format("the firmware's SEV hash table block has {} bytes, the table {}", table.hash_block->size_bytes, KernelHashes::wire_size);
    }
    return {};
}

void boot_findings(std::vector<CoverageFinding>& findings, const QemuLaunch& launch, bool direct_boot, const FirmwareTable& table) {
    const std::string problem = hash_block_problem(table);
    if (direct_boot && !launch.kernel) {
        findings.push_back({"kernel-unmeasured", "kernel, ramdisk and command line come from the host and are not measured: the launch has no "
                                                 "kernel hashes table",
                            "start the guest with kernel-hashes=on (libvirt: kernelHashes='yes') and measure the three files"});
    }
    if (direct_boot && !problem.empty()) {
        findings.push_back({"hash-block-absent", problem + ", so that no kernel given with -kernel can be measured",
                            "use firmware of the platform file OvmfPkg/AmdSev"});
    }
    if (!direct_boot && launch.kernel) {
        findings.push_back({"kernel-hashes-unused", "the launch has a kernel hashes table but no -kernel: QEMU writes none then, and the digest "
                                                    "will not match",
                            "leave the kernel out of the measurement, or start the guest with -kernel"});
    }
    if (!direct_boot) {
        findings.push_back({"disk-boot-unmeasured", "boot loader, kernel and ramdisk come from a disk or the network after the measurement",
                            "use firmware with a built-in boot loader that opens the disk with a launch secret, or boot directly with kernel "
                            "hashes"});
    }
}

void register_findings(std::vector<CoverageFinding>& findings, const QemuLaunch& launch, const FirmwareTable& table) {
    if (launch.vmsas.empty()) {
        findings.push_back({"registers-unmeasured", "the vCPUs' registers are not measured, and the host reads and changes them as the guest "
                                                    "runs (no SEV-ES)",
                            "ask for SEV-ES in the guest policy (bit 2) and measure the VMSAs"});
        return;
    }
    if (!table.ap_reset_address || *table.ap_reset_address == 0) {
        findings.push_back({"reset-block-absent", fmt::format("the firmware {}: QEMU starts no SEV-ES guest with it",
                                                              table.ap_reset_address ? "has AP reset address 0" : "names no SEV-ES reset block"),
                            "use an OVMF image built for SEV-ES: the whole first flash (CODE, not VARS)"});
    }
    for (std::size_t i = 0; i < launch.vmsas.size(); ++i) {
        const std::vector<StrayByte> stray = stray_bytes(launch.vmsas[i]);
        if (stray.empty()) continue;
        findings.push_back({"vmsa-stray-bytes",
                            fmt::format("VMSA of vCPU {} has {} bytes in no known field that are not zero, the first is {:#04x} at {:#x}: they "
                                        "are measured, "
                                        "but nobody here knows what they do",
                                        i, stray.size(), stray.front().value, stray.front().offset),
                            "find out which VMM or kernel makes such a page before it becomes a reference value"});
        break; // one finding; the others differ in nothing that a reader could act on
    }
}

void firmware_findings(std::vector<CoverageFinding>& findings, const QemuLaunch& launch) {
    const std::size_t size = launch.firmware.size();
    if (size == 0 || size % flash_block_bytes != 0) {
        findings.push_back({"firmware-incomplete", fmt::format("the firmware has {} bytes, no multiple of {} as QEMU's flash "
                                                               "wants", size, flash_block_bytes),
                            "measure the whole image that the first flash holds"});
    }
    const std::vector<VariableStore> stores = variable_stores(launch.firmware);
    for (const VariableStore& store : stores) {
        findings.push_back({"variable-store-inside",
                            fmt::format("the firmware image holds a UEFI variable store of {} bytes at {:#x}: whatever the guest writes there "
                                        "changes the digest of its next start",
                                        store.size_bytes, store.file_offset),
                            "use a stateless image, or one whose variables are in a flash of their own (CODE and VARS)"});
    }
    if (stores.empty()) {
        findings.push_back({"variable-store-outside",
                            "UEFI variables in a second flash (VARS), and with them boot order and Secure Boot keys, are not measured: only the "
                            "first flash is",
                            "give the guest no second flash (stateless), and trust no UEFI variable"});
    }
}

} // namespace

std::vector<CoverageFinding> coverage(const QemuLaunch& launch, bool direct_boot) {
    const FirmwareTable table = FirmwareTable::parse(launch.firmware);
    std::vector<CoverageFinding> findings;
    boot_findings(findings, launch, direct_boot, table);
    register_findings(findings, launch, table);
    firmware_findings(findings, launch);
    findings.push_back({"devices-unmeasured",
                        "what the host presents to the firmware at run time is not measured: fw_cfg files (ACPI tables, memory map, boot "
                        "order), option ROMs, "
                        "SMBIOS, CPUID values, device answers",
                        "let the guest trust only what it checks itself: no option ROMs, verified disks, secrets only through the launch"});
    findings.push_back({"addresses-unbound",
                        "the digest binds the loaded bytes in their order, not the addresses nor where one region ends and the next begins "
                        "(CVE-2021-26311)",
                        "treat the digest as a statement about content; SEV-SNP is the remedy"});
    return findings;
}

} // namespace sev::measure
