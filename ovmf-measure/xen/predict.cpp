// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/predict.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "ovmf-measure/xen/kernel.hpp"
#include "ovmf-measure/xen/layout.hpp"
#include "ovmf-measure/xen/start_info.hpp"
#include "ovmf-measure/xen/unpack.hpp"

namespace sev::measure {
namespace {

using namespace xen_layout;

constexpr std::uint32_t type_ram = 1, type_reserved = 2, type_acpi = 3, type_nvs = 4;
constexpr std::uint64_t mtrr_write_back = 0x806; // default type WB, enabled

const XenFile& need(const std::optional<XenFile>& file, std::string_view what) {
    if (!file) throw Error{Fault::usage, fmt::format("Xen guest: the {} is missing", what)};
    if (file->bytes.empty()) throw Error{Fault::malformed, fmt::format("{}: 0 bytes, want a {}", file->name, what)};
    if (file->bytes.size() > xen_unpack_limit_bytes)
        throw Error{Fault::malformed,
                    fmt::format("{}: {} bytes, more than the {} that Xen reads", file->name, file->bytes.size(), xen_unpack_limit_bytes)};
    return *file;
}

void check_files(const XenGuestConfig& config, const XenFiles& files) {
    const auto agree = [](bool configured, bool given, std::string_view what) {
        if (configured != given)
            throw Error{Fault::usage, fmt::format("Xen guest: the {} is {}", what,
                                                  configured ? "configured, and its bytes are not given" : "given, and not configured")};
    };
    const bool pvh = config.type == XenGuestType::pvh;
    agree(pvh, files.kernel.has_value(), "kernel");
    agree(pvh && config.ramdisk, files.ramdisk.has_value(), "ramdisk");
    agree(!pvh, files.hvmloader.has_value(), "hvmloader");
    agree(!pvh, files.firmware.has_value(), "firmware");
    agree(config.acpi_firmware.has_value(), files.acpi_module.has_value(), "acpi_firmware");
    agree(config.smbios_firmware.has_value(), files.smbios_module.has_value(), "smbios_firmware");
}

/// Where guest memory is, in bytes.
struct Memory {
    std::uint64_t total, low_end, high_end; // high_end 0: none above 4 GiB
    explicit Memory(const XenGuestConfig& config) : total{(config.memory_kib - config.video_kib) * 1024}, low_end{total}, high_end{0} {
        std::uint64_t hole = config.type == XenGuestType::pvh ? hole_pvh : hole_hvm;
        if (config.mmio_hole_kib) hole = std::min(hole, four_gib - *config.mmio_hole_kib * 1024);
        if (total > hole) {
            low_end = hole;
            high_end = four_gib + total - hole;
        }
    }
};

/// One prediction under way. Segments are handed out upwards from the kernel, in whole pages.
class Prediction {
public:
    Prediction(const XenGuestConfig& config, const XenFiles& files, const XenRules& rules, const AcpiReference* acpi)
        : config_{config}, files_{files}, rules_{rules}, acpi_{acpi}, memory_{config} {
        image_.type = config.type;
    }

    XenImage run() && {
        if (config_.type == XenGuestType::pvh) pvh();
        else hvm();
        std::ranges::sort(image_.ranges, {}, &XenRange::gfn);
        shared_pages();
        return std::move(image_);
    }

private:
    /// Keeps bytes for as long as the image lives.
    ByteView keep(Bytes bytes) {
        const auto owner = std::make_shared<const Bytes>(std::move(bytes));
        image_.owned.push_back(owner);
        return *owner;
    }
    ByteView keep(Unpacked unpacked) {
        if (unpacked.owner) image_.owned.push_back(std::move(unpacked.owner));
        return unpacked.bytes;
    }
    XenRange& add(std::string_view label, std::string source, std::uint64_t gfn, std::uint64_t size_bytes, std::vector<XenPiece> pieces) {
        return image_.ranges.emplace_back(XenRange{.label = std::string{label},
                                                   .source = std::move(source),
                                                   .gfn = gfn,
                                                   .pages = pages_of(size_bytes),
                                                   .pieces = std::move(pieces),
                                                   .unwritten = {}});
    }
    XenRange& next(std::string_view label, std::string source, std::uint64_t size_bytes, std::vector<XenPiece> pieces) {
        const std::uint64_t gfn = cursor_;
        cursor_ += pages_of(size_bytes);
        if (cursor_ * page_bytes > memory_.low_end)
            throw Error{
                Fault::usage,
                fmt::format("Xen guest: {} ends at {:#x}, beyond the {:#x} bytes of low memory", label, cursor_ * page_bytes, memory_.low_end),
                "give the guest more memory"};
        return add(label, std::move(source), gfn, size_bytes, std::move(pieces));
    }

    void place(const XenElf& elf, ByteView file, std::string_view label, const std::string& source) {
        std::vector<XenPiece> pieces;
        for (const XenElfSegment& segment : elf.segments)
            if (segment.filesz != 0)
                pieces.push_back({.offset_bytes = segment.paddr - elf.start,
                                  .bytes = file.subspan(static_cast<std::size_t>(segment.offset), static_cast<std::size_t>(segment.filesz))});
        cursor_ = elf.start / page_bytes;
        next(label, source, elf.end - elf.start, std::move(pieces));
    }

    /// A ramdisk as the builder hands it over. Until 4.19 it unpacks the first member of a gzip file, if that fits into the length the file's end
    /// claims, and 16 bytes.
    void ramdisk() {
        const XenFile& file = need(files_.ramdisk, "ramdisk");
        std::uint64_t size = file.bytes.size();
        ByteView content = file.bytes;
        std::string source = file.name;
        if (rules_.gunzips_ramdisk)
            if (const auto unzipped = gunzip_size(file.bytes); unzipped && *unzipped <= xen_unpack_limit_bytes) {
                size = std::max<std::uint64_t>(size, *unzipped);
                if (auto member = gunzip_first_member(file.bytes, *unzipped)) {
                    content = keep(std::move(*member));
                    source += " (unpacked by the domain builder)";
                }
            }
        const XenRange& range = next("ramdisk", std::move(source), size, {{.offset_bytes = 0, .bytes = content}});
        module_ = {.gpa = range.gpa(), .size_bytes = size, .cmdline = {}};
    }

    void start_info(std::vector<XenMemoryEntry> map, std::uint64_t rsdp_gpa, std::optional<std::string_view> cmdline, std::string source) {
        start_info_ = {.cmdline = cmdline, .module = module_, .rsdp_gpa = rsdp_gpa, .memory = std::move(map)};
        start_info_at_ = image_.ranges.size();
        next("start_info", std::move(source), start_info_.size_bytes(), {});
    }
    /// Once every address in it is known.
    void finish_start_info() {
        start_info_.module = module_;
        XenRange& range = image_.ranges.at(start_info_at_);
        range.pieces = {{.offset_bytes = 0, .bytes = keep(start_info_.serialize(range.gpa()))}};
        image_.vcpu0.rbx = range.gpa();
    }

    void pvh() {
        require(acpi_ != nullptr, "a PVH prediction has an ACPI reference");
        const XenFile& file = need(files_.kernel, "kernel");
        const ByteView kernel = keep(unpack_kernel(file.bytes, file.name, rules_.lzma_memory_mib));
        const XenElf elf = XenElf::parse(kernel, file.name);
        check_pvh_kernel(elf, rules_, file.name);
        place(elf, kernel, "kernel", file.name);
        image_.vcpu0.rip = *elf.notes.phys32_entry;
        image_.vcpu0.mtrr_def_type = mtrr_write_back;
        image_.ramdisk_by_page_number = elf.notes.mod_start_pfn;
        image_.kernel_is_firmware = elf.segments.size() == 1 && elf.segments.front().offset == 0 && elf.segments.front().filesz == kernel.size();

        const std::uint64_t table_pages = acpi_->tables.size() / page_bytes;
        const std::uint64_t rsdp_gpa = elf.notes.rsdp_unrestricted() ? acpi_info_gpa + (1 + table_pages) * page_bytes : rsdp_low_gpa;
        if (files_.ramdisk && !elf.notes.mod_start_pfn) ramdisk();
        const auto cmdline = config_.cmdline ? std::optional<std::string_view>{*config_.cmdline} : std::nullopt;
        start_info(pvh_map(table_pages, rsdp_gpa), rsdp_gpa, cmdline, "memory size, command line, addresses");
        if (files_.ramdisk && elf.notes.mod_start_pfn) ramdisk();
        finish_start_info();
        acpi(rsdp_gpa, table_pages);

        image_.populated = {{.gfn = 0, .pages = memory_.low_end / page_bytes}};
        const bool rsdp_in_ram = rsdp_gpa == rsdp_low_gpa;
        image_.populated.push_back({.gfn = acpi_info_gpa / page_bytes, .pages = 1 + table_pages + (rsdp_in_ram ? 0 : 1)});
        image_.populated.push_back({.gfn = special_gfn, .pages = special_pages});
        if (memory_.high_end != 0) image_.populated.push_back({.gfn = four_gib / page_bytes, .pages = (memory_.high_end - four_gib) / page_bytes});
        image_.total_pages = memory_.total / page_bytes + special_pages + 2 + table_pages;
    }

    std::vector<XenMemoryEntry> pvh_map(std::uint64_t table_pages, std::uint64_t rsdp_gpa) const {
        const std::uint32_t acpi_type = rules_.acpi_is_nvs ? type_nvs : type_acpi;
        const std::uint64_t rsdp_in_page = rsdp_gpa % page_bytes;
        std::vector<XenMemoryEntry> map{{.gpa = 0, .size_bytes = memory_.low_end, .type = type_ram},
                                        {.gpa = special_gfn * page_bytes, .size_bytes = special_pages * page_bytes, .type = type_reserved},
                                        {.gpa = rsdp_gpa - rsdp_in_page, .size_bytes = AcpiReference::rsdp_bytes + rsdp_in_page, .type = acpi_type},
                                        {.gpa = acpi_info_gpa, .size_bytes = page_bytes, .type = acpi_type},
                                        {.gpa = acpi_info_gpa + page_bytes, .size_bytes = table_pages * page_bytes, .type = acpi_type}};
        if (memory_.high_end != 0) map.push_back({.gpa = four_gib, .size_bytes = memory_.high_end - four_gib, .type = type_ram});
        return map;
    }

    void acpi(std::uint64_t rsdp_gpa, std::uint64_t table_pages) {
        const std::string source =
            fmt::format("ACPI reference: libxenlight {}, {} vCPUs, online {}", acpi_->libxenlight, acpi_->vcpus, text(acpi_->online));
        const std::uint64_t info_gfn = acpi_info_gpa / page_bytes, in_page = rsdp_gpa % page_bytes;
        add("acpi_info", source, info_gfn, page_bytes, {{.offset_bytes = 0, .bytes = keep(acpi_->info)}});
        add("acpi_tables", source, info_gfn + 1, table_pages * page_bytes, {{.offset_bytes = 0, .bytes = keep(acpi_->tables)}});
        XenRange& rsdp = add("acpi_rsdp", source, rsdp_gpa / page_bytes, page_bytes, {{.offset_bytes = in_page, .bytes = keep(acpi_->rsdp)}});
        if (in_page != 0) rsdp.unwritten.push_back({.offset_bytes = 0, .length_bytes = in_page});
        if (const std::uint64_t end = in_page + acpi_->rsdp.size(); end < page_bytes)
            rsdp.unwritten.push_back({.offset_bytes = end, .length_bytes = page_bytes - end});
        image_.later_tables = std::make_shared<const Bytes>(acpi_->tables_of(XenBuild::later));
    }

    void module(const std::optional<XenFile>& given, std::string_view label, std::string_view what) {
        const XenFile& file = need(given, what);
        next(label, file.name, file.bytes.size(), {{.offset_bytes = 0, .bytes = file.bytes}});
    }

    void hvm() {
        const XenFile& file = need(files_.hvmloader, "hvmloader");
        const ByteView loader = keep(unpack_kernel(file.bytes, file.name, rules_.lzma_memory_mib));
        const XenElf elf = XenElf::parse(loader, file.name);
        check_hvmloader(elf, file.name);
        place(elf, loader, "hvmloader", file.name);
        image_.vcpu0.rip = elf.entry;
        module(files_.firmware, "firmware", "firmware");
        module_ = {.gpa = image_.ranges.back().gpa(), .size_bytes = files_.firmware->bytes.size(), .cmdline = "firmware"};
        std::vector<XenMemoryEntry> map{{.gpa = low_ram_hvm, .size_bytes = memory_.low_end - low_ram_hvm, .type = type_ram}};
        std::uint64_t repeated_pages = 0;
        if (files_.acpi_module) {
            module(files_.acpi_module, "acpi_module", "acpi_firmware");
            XenRange& range = image_.ranges.back();
            const std::uint64_t size = files_.acpi_module->bytes.size();
            // its pages are populated a second time, after they were cleared, so nobody clears the new ones
            if (size < range.length_bytes()) range.unwritten.push_back({.offset_bytes = size, .length_bytes = range.length_bytes() - size});
            repeated_pages = range.pages;
            // the map is made before the module has an address
            map.push_back({.gpa = 0, .size_bytes = size, .type = rules_.acpi_is_nvs ? type_nvs : type_acpi});
        }
        if (files_.smbios_module) module(files_.smbios_module, "smbios_module", "smbios_firmware");
        if (memory_.high_end != 0) map.push_back({.gpa = four_gib, .size_bytes = memory_.high_end - four_gib, .type = type_ram});
        start_info(std::move(map), 0, std::nullopt, "memory size, addresses");
        finish_start_info();
        add("hvm_info", "memory size, vCPUs, apic", hvm_info_gfn, page_bytes,
            {{.offset_bytes = 0, .bytes = keep(hvm_info_page(config_, memory_.low_end, memory_.high_end))}});
        hvm_populated(repeated_pages);
    }

    void hvm_populated(std::uint64_t repeated_pages) {
        std::uint64_t qemu = config_.vga == XenVga::none ? 0 : config_.video_kib * 1024 / page_bytes + option_rom_pages;
        image_.total_pages = memory_.total / page_bytes - (vga_hole_end_gfn - vga_hole_gfn) + ioreq_pages + special_pages + qemu + repeated_pages;
        if (config_.emulated_nics) {
            image_.total_pages.reset();
            qemu = 0;
        }
        const std::uint64_t low = memory_.low_end / page_bytes;
        image_.populated = {{.gfn = 0, .pages = vga_hole_gfn},
                            {.gfn = vga_hole_end_gfn, .pages = low - vga_hole_end_gfn + (memory_.high_end == 0 ? qemu : 0)}};
        image_.populated.push_back({.gfn = ioreq_gfn, .pages = ioreq_pages + special_pages});
        if (memory_.high_end != 0)
            image_.populated.push_back({.gfn = four_gib / page_bytes, .pages = (memory_.high_end - four_gib) / page_bytes + qemu});
    }

    /// The pages at the end of the address space that guest and host both write.
    void shared_pages() {
        const auto shared = [&](std::string_view label, std::uint64_t gfn, std::uint64_t pages, std::vector<XenPiece> pieces = {}) {
            image_.shared.push_back(
                {.label = std::string{label}, .source = "domain builder", .gfn = gfn, .pages = pages, .pieces = std::move(pieces), .unwritten = {}});
        };
        Bytes identity(page_bytes);
        for (std::uint32_t i = 0; i < page_bytes / 4; ++i) {
            const std::uint32_t entry = i << 22 | 0xE7; // present, writable, user, accessed, dirty, 4 MiB
            for (unsigned byte = 0; byte < 4; ++byte) identity[i * 4 + byte] = static_cast<std::uint8_t>(entry >> 8 * byte);
        }
        if (config_.type == XenGuestType::hvm) shared("ioreq_servers", ioreq_gfn, ioreq_pages);
        static constexpr std::string_view names[] = {"paging_ring", "access_ring", "sharing_ring", "bufioreq",
                                                     "xenstore",    "ioreq",       "ident_pt",     "console"};
        for (std::uint64_t i = 0; i < special_pages; ++i) {
            const std::string_view label = names[i];
            if (label == "ident_pt") shared(label, special_gfn + i, 1, {{.offset_bytes = 0, .bytes = keep(std::move(identity))}});
            else if (label == "console" && rules_.console_has_connection)
                shared(label, special_gfn + i, 1, {{.offset_bytes = 0xC10, .bytes = keep(Bytes{1})}});
            else shared(label, special_gfn + i, 1);
        }
    }

    const XenGuestConfig& config_;
    const XenFiles& files_;
    const XenRules& rules_;
    const AcpiReference* acpi_;
    Memory memory_;
    XenImage image_;
    std::uint64_t cursor_ = 0; // the next free gfn
    std::optional<XenModule> module_;
    XenStartInfo start_info_;
    std::size_t start_info_at_ = 0;
};

void check_reference(const XenGuestConfig& config, XenVersion version, const AcpiReference* acpi) {
    if (config.type != XenGuestType::pvh) return;
    const std::string want = fmt::format("{} vCPUs, online {}, of Xen {}", config.vcpus, text(config.online), version.text());
    const std::string hint = "take one from a paused guest with sevctl reference capture, or import one";
    if (!acpi) throw Error{Fault::usage, fmt::format("Xen guest: the ACPI reference is missing, want one for {}", want), hint};
    if (acpi->vcpus != config.vcpus || acpi->online != config.online || acpi->xen_version != version)
        throw Error{Fault::usage,
                    fmt::format("Xen guest: the ACPI reference is for {} vCPUs, online {}, of Xen {}, want {}", acpi->vcpus, text(acpi->online),
                                acpi->xen_version.text(), want),
                    hint};
    acpi->check();
}

} // namespace

XenImage predict_xen(const XenGuestConfig& config, const XenFiles& files, XenVersion version, const AcpiReference* acpi) {
    check(config);
    const XenRules rules = xen_rules(version, config.type);
    check_files(config, files);
    check_reference(config, version, acpi);
    return Prediction{config, files, rules, acpi}.run();
}

} // namespace sev::measure
