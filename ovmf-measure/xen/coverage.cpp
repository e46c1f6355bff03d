// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/image.hpp"

namespace sev::measure {
namespace {

void hvm_findings(const XenImage& image, const XenGuestConfig& config, std::vector<CoverageFinding>& out) {
    out.push_back({.id = "hvm-runs-unmeasured",
                   .text = "hvmloader and the firmware are measured, and what they start from the guest's disks or network is not",
                   .remedy = "use a PVH guest, whose kernel, ramdisk and command line are all measured"});
    out.push_back({.id = "hvm-inputs-unmeasured",
                   .text = "hvmloader builds SMBIOS, ACPI tables and the memory map as it runs, from xenstore and hypercalls: UUID, generation id, "
                           "firmware strings and choices are the host's",
                   .remedy = {}});
    out.push_back({.id = "hvm-firmware-relocated",
                   .text = "hvmloader copies the firmware to pages that are added to the guest as it runs: the code that starts is not in the pages "
                           "that were measured",
                   .remedy = {}});
    out.push_back({.id = "hvm-devices-unmeasured",
                   .text = "QEMU adds video memory and option ROMs, and answers the guest's every access to an emulated device",
                   .remedy = "turn off what the guest does not need: vga=\"none\", no emulated network cards"});
    if (!image.total_pages)
        out.push_back({.id = "memory-size-unchecked",
                       .text = "memory size not checked: emulated network card, or arguments for QEMU. QEMU adds option ROMs, as many as it likes, "
                               "so pages that were added to the guest are not noticed",
                       .remedy = "make every network card paravirtual (xl: \"type=vif\"; libvirt: <model type='netfront'/>), "
                                 "and give QEMU no arguments"});
    if (config.kernel)
        out.push_back({.id = "direct-kernel-unmeasured",
                       .text = "the kernel, ramdisk and command line of an HVM guest come through QEMU: none of them is measured",
                       .remedy = "use a PVH guest"});
}

} // namespace

std::vector<CoverageFinding> coverage(const XenImage& image, const XenGuestConfig& config) {
    std::vector<CoverageFinding> out;
    if (image.type == XenGuestType::hvm) hvm_findings(image, config, out);
    if (image.kernel_is_firmware)
        out.push_back({.id = "firmware-boots-unmeasured",
                       .text = "the kernel is a firmware image: what it starts from the guest's disks or network is not measured",
                       .remedy = "start the kernel itself, or let the firmware open nothing but an encrypted disk"});
    out.push_back({.id = "vcpu-unmeasured",
                   .text = "the vCPU's registers are not in the digest: the host can start the guest elsewhere than at the kernel's entry",
                   .remedy = "let sevctl launch create the guest: it compares vCPU 0 before the guest is unpaused"});
    out.push_back({.id = "memory-unmeasured",
                   .text = "memory that the domain builder does not write is not in the digest, and may hold what a former domain left",
                   .remedy = "a guest must not read memory that it has not written"});
    out.push_back({.id = "shared-pages",
                   .text = "the pages of console, xenstore, grant table and shared_info are written by the host while the guest runs",
                   .remedy = {}});
    out.push_back({.id = "devices-unmeasured",
                   .text = "disks, network and time are the host's",
                   .remedy = "encrypt disks and connections with keys that only an attested guest gets"});
    out.push_back(
        {.id = "addresses-unbound", .text = "the digest covers the pages' bytes and their order, not where in the guest they lie", .remedy = {}});
    return out;
}

} // namespace sev::measure
