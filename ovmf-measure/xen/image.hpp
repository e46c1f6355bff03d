// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "ovmf-measure/launch_digest.hpp"
#include "ovmf-measure/xen/acpi_reference.hpp"
#include "ovmf-measure/xen/guest_config.hpp"

namespace sev::measure {

inline constexpr std::size_t xen_page_bytes = 4096;
using XenPage = ByteArray<xen_page_bytes>;

/// Bytes at a place in a range. They belong to the files that were given to `predict_xen`, or to the image.
struct XenPiece {
    std::uint64_t offset_bytes; // in the range
    ByteView bytes;
};
/// A part of a range that the builder does not write: whatever Xen's heap had there. Measured as zeros, and so to be zeroed before the guest is
/// measured.
struct XenUnwritten {
    std::uint64_t offset_bytes, length_bytes;
    friend bool operator==(const XenUnwritten&, const XenUnwritten&) = default;
};

/// A run of guest pages of one origin, as predicted. Big contents are not copied: a range is its pieces, and zeros between them.
struct XenRange {
    // "kernel", "ramdisk", "start_info", "acpi_info", "acpi_tables", "acpi_rsdp"; "hvm_info", "hvmloader", "firmware", "acpi_module", "smbios_module"
    std::string label;
    std::string source; // for people: a file name, or what the bytes come of
    std::uint64_t gfn = 0, pages = 0;
    std::vector<XenPiece> pieces; // ascending, without overlap
    std::vector<XenUnwritten> unwritten;

    std::uint64_t gpa() const noexcept { return gfn * xen_page_bytes; }
    std::uint64_t length_bytes() const noexcept { return pages * xen_page_bytes; }
    /// The 4096 bytes of one page (0 is the first): a view of a piece where one holds the whole page, otherwise put together in `scratch`.
    ByteView page(std::uint64_t index, XenPage& scratch) const;
    /// Calls each(ByteView) with all bytes from front to back; no view is empty.
    template <class Each>
    void visit(Each&& each) const {
        static constexpr XenPage zeros{};
        std::uint64_t at = 0;
        const auto zeros_to = [&](std::uint64_t end) {
            while (at < end) {
                const auto now = static_cast<std::size_t>(std::min<std::uint64_t>(end - at, zeros.size()));
                each(ByteView{zeros}.first(now));
                at += now;
            }
        };
        for (const XenPiece& piece : pieces) {
            zeros_to(piece.offset_bytes);
            if (!piece.bytes.empty()) each(piece.bytes);
            at += piece.bytes.size();
        }
        zeros_to(length_bytes());
    }
};

/// The order in which pages are measured; the guest's addresses are in no digest, so the order is part of the contract.
enum class XenOrder {
    ascending_gfn, // "ascending-gfn": the product's own
    vates_2025,    // "vates-2025": kernel, ramdisk, start_info, RSDP, ACPI info, ACPI tables: what the hypervisor patches of 2025 hash. PVH only
};
std::string_view name(XenOrder order);
std::optional<XenOrder> xen_order_named(std::string_view name);

/// vCPU 0 as the builder leaves it: the CPU record of the domain's HVM context. Whatever is not here is 0, but for `tsc`; the FPU is not initialised.
/// Other vCPUs are down and have no record.
struct XenSegment {
    std::uint32_t selector = 0, limit = 0;
    std::uint64_t base = 0;
    std::uint32_t attributes = 0;
    friend bool operator==(const XenSegment&, const XenSegment&) = default;
};
struct XenVcpuContext {
    std::uint64_t rip = 0, rbx = 0, rflags = 0x2;
    std::uint64_t cr0 = 0x11, dr6 = 0xFFFF0FF0, dr7 = 0x400;
    XenSegment cs{.selector = 0, .limit = 0xFFFFFFFF, .base = 0, .attributes = 0xC9B};
    XenSegment data{.selector = 0, .limit = 0xFFFFFFFF, .base = 0, .attributes = 0xC93}; // DS, ES, SS; FS, GS, LDTR, GDTR and IDTR are all 0
    XenSegment tr{.selector = 0, .limit = 0x67, .base = 0, .attributes = 0x8B};
    std::uint64_t mtrr_def_type = 0; // of every vCPU: 0x806 for PVH, 0 for HVM
    friend bool operator==(const XenVcpuContext&, const XenVcpuContext&) = default;
};

/// gfns that are there, one after the other.
struct XenRun {
    std::uint64_t gfn = 0, pages = 0;
    friend bool operator==(const XenRun&, const XenRun&) = default;
};

/// What is measured, in order, and its digest.
struct XenMeasurement {
    Digest digest{};
    std::vector<MeasuredRegion> regions; // the digest covers exactly these, back to back
    std::optional<Digest> later_digest{}; // of `later_build`, for a PVH image of the first build
};

/// A guest's initial memory as predicted. The files it was made from outlive it; copies share what they own.
struct XenImage {
    XenGuestType type = XenGuestType::pvh;
    XenBuild build = XenBuild::first;
    std::vector<XenRange> ranges; // measured, ascending by gfn
    // known but never measured, since host and guest both write there: "ident_pt", "console", "xenstore" (the daemon's u32 at 0x810 is 0 or 1) …
    std::vector<XenRange> shared;
    XenVcpuContext vcpu0;
    std::vector<XenRun> populated; // all gfns that are there when the guest is paused, ascending
    /// Pages the domain has in all, or nothing when QEMU adds option ROMs of network cards.
    std::optional<std::uint64_t> total_pages;
    bool ramdisk_by_page_number = false; // the kernel's note MOD_START_PFN
    bool kernel_is_firmware = false;     // the file is its only segment, as with OvmfXen

    /// The range of that label; nullptr when there is none.
    const XenRange* find(std::string_view label) const;
    /// The same guest when its process has built a PVH guest before: other ACPI table bytes. nullopt for HVM, which does not differ.
    std::optional<XenImage> later_build() const;

    std::vector<std::shared_ptr<const void>> owned; // what pieces point into, besides the caller's files
    std::shared_ptr<const Bytes> later_tables;     // PVH
};

/// digest returns the launch digest: SHA-256 over all measured pages in `order`. Throws Error{Fault::usage} for vates-2025 with an HVM guest, or with
/// a ramdisk for a kernel with MOD_START_PFN: that code hashes other pages then than those that it means to.
Digest digest(const XenImage& image, XenOrder order);
/// measure returns the digest and each region's own SHA-256; long regions are hashed beside the whole on a second thread. Throws likewise.
XenMeasurement measure(const XenImage& image, XenOrder order);

/// What the digest of such a guest does not say, the gravest first; never empty. ids: hvm-runs-unmeasured, hvm-inputs-unmeasured,
/// hvm-firmware-relocated, hvm-devices-unmeasured, memory-size-unchecked, direct-kernel-unmeasured, firmware-boots-unmeasured, vcpu-unmeasured,
/// memory-unmeasured, shared-pages, devices-unmeasured, addresses-unbound. Source: xen.git tools/firmware/hvmloader.
std::vector<CoverageFinding> coverage(const XenImage& image, const XenGuestConfig& config);

} // namespace sev::measure
