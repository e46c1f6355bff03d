// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/prepared.hpp"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "base/error.hpp"
#include "ovmf-measure/slot.hpp"
#include "ovmf-measure/xen/unpack.hpp"

namespace sev::launch::xen {
namespace {

using measure::XenGuestType;

Path absolute(const std::string& text, std::string_view what) {
    const Path path{text};
    if (!path.is_absolute())
        throw Error{Fault::usage, fmt::format("{} is {}, want an absolute path", what, printable(text, 4096)),
                    "a daemon has no folder of its own to look in"};
    return path;
}

Path hvmloader_of(const measure::XenGuestConfig& config, measure::XenVersion version, const HostFiles& host) {
    if (config.hvmloader) return absolute(*config.hvmloader, "firmware_override");
    return host.hvmloader.empty() ? Path{fmt::format("/usr/lib/xen-{}.{}/boot/hvmloader", version.major, version.minor)} : host.hvmloader;
}

Path firmware_of(const measure::XenGuestConfig& config, const HostFiles& host) {
    if (config.system_firmware) return absolute(*config.system_firmware, "bios_path_override");
    if (config.firmware == measure::XenFirmware::ovmf) return host.ovmf.empty() ? Path{"/usr/share/ovmf/OVMF.fd"} : host.ovmf;
    return host.seabios.empty() ? Path{"/usr/share/seabios/bios-256k.bin"} : host.seabios;
}

std::vector<Path> files_in(const Path& folder) {
    std::vector<Path> out;
    std::error_code failed;
    for (std::filesystem::directory_iterator at{folder, failed}, end; !failed && at != end; at.increment(failed))
        if (const std::string name = at->path().filename().string(); name.starts_with("xen-acpi-") && name.ends_with(".json"))
            out.push_back(at->path());
    if (failed && failed != std::errc::no_such_file_or_directory)
        throw Error{Fault::system, fmt::format("{}: {}", printable(folder.string(), 4096), failed.message())};
    std::ranges::sort(out);
    return out;
}

measure::AcpiReference reference_for(const measure::XenGuestConfig& config, measure::XenVersion version, const HostFiles& host) {
    std::optional<measure::AcpiReference> found;
    for (const Path& path : files_in(host.references)) {
        const std::string name = printable(path.string(), 4096);
        auto one = measure::AcpiReference::from_json(
            json::parse(read_text(path, measure::AcpiReference::limit_bytes), name, {.bytes = measure::AcpiReference::limit_bytes}), name);
        if (one.xen_version != version || one.vcpus != config.vcpus || one.online != config.online) continue;
        if (found && !(*found == one))
            throw Error{Fault::usage,
                        fmt::format("ACPI references: two are of Xen {}, {} vCPUs, online {}, and differ ({} and {})", version.text(), config.vcpus,
                                    measure::text(config.online), found->libxenlight, one.libxenlight),
                        "keep the one of the toolstack that is installed"};
        found = std::move(one);
    }
    if (!found)
        throw Error{Fault::usage,
                    fmt::format("ACPI references: none in {} is of Xen {}, {} vCPUs, online {}", printable(host.references.string(), 4096),
                                version.text(), config.vcpus, measure::text(config.online)),
                    "take one from a paused guest with that many vCPUs: sevctl reference capture --domid N"};
    return *std::move(found);
}

} // namespace

ByteView Prepared::file(const Path& path) {
    return files_.emplace_back(read_file(path, measure::xen_unpack_limit_bytes));
}

void Prepared::drop_unused_files() {
    const auto used = [&](const Bytes& file) {
        return std::ranges::any_of(image_.ranges, [&](const measure::XenRange& range) {
            return std::ranges::any_of(range.pieces, [&](const measure::XenPiece& piece) {
                return !piece.bytes.empty() && std::greater_equal<>{}(piece.bytes.data(), file.data()) &&
                       std::less<>{}(piece.bytes.data(), file.data() + file.size());
            });
        });
    };
    std::erase_if(files_, [&](const Bytes& file) { return !used(file); });
}

Prepared::Prepared(measure::XenGuestConfig config, measure::XenVersion version, const HostFiles& host)
    : config_{std::move(config)}, version_{version} {
    measure::XenFiles files;
    const auto add = [&](std::optional<measure::XenFile>& to, const Path& path) {
        to = measure::XenFile{.bytes = file(path), .name = printable(path.string(), 4096)};
    };
    if (config_.type == XenGuestType::pvh) {
        add(files.kernel, absolute(config_.kernel.value_or(""), "kernel"));
        if (config_.ramdisk) add(files.ramdisk, absolute(*config_.ramdisk, "ramdisk"));
        const measure::AcpiReference reference = reference_for(config_, version_, host);
        image_ = measure::predict_xen(config_, files, version_, &reference);
    } else {
        add(files.hvmloader, hvmloader_of(config_, version_, host));
        add(files.firmware, firmware_of(config_, host));
        if (config_.acpi_firmware) add(files.acpi_module, absolute(*config_.acpi_firmware, "acpi_firmware"));
        if (config_.smbios_firmware) add(files.smbios_module, absolute(*config_.smbios_firmware, "smbios_firmware"));
        image_ = measure::predict_xen(config_, files, version_, nullptr);
    }
    find_slots(files);
    drop_unused_files();
}

void Prepared::find_slots(const measure::XenFiles& files) {
    if (files.ramdisk) {
        const std::uint64_t pages = measure::ramdisk_slot_pages(files.ramdisk->bytes);
        const measure::XenRange* const range = image_.find("ramdisk");
        if (range && pages != 0 && pages <= measure::ramdisk_slot_page_limit)
            slots_.push_back({.name = "initrd", .gpa = psp::Gpa{range->gpa()}, .length_bytes = pages * measure::slot_page_bytes});
    }
    if (files.smbios_module) {
        const auto slot = measure::smbios_slot(files.smbios_module->bytes);
        const measure::XenRange* const range = image_.find("smbios_module");
        if (slot && range) slots_.push_back({.name = "smbios", .gpa = psp::Gpa{range->gpa()}, .length_bytes = slot->file_bytes});
    }
}

void Prepared::set_build(measure::XenBuild build) {
    if (build == image_.build) return;
    auto other = image_.later_build();
    require(build == measure::XenBuild::later && other.has_value(), "only a PVH guest has a later build");
    image_ = *std::move(other);
}

attest::GuestKind Prepared::kind() const noexcept {
    if (config_.type == XenGuestType::hvm) return attest::GuestKind::xen_hvm;
    return image_.kernel_is_firmware ? attest::GuestKind::ovmf_pvh : attest::GuestKind::xen_pvh;
}

} // namespace sev::launch::xen
