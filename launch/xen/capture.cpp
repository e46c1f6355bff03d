// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/capture.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/crypto.hpp"
#include "base/error.hpp"
#include "launch/xen/compare.hpp"
#include "launch/xen/vcpu_context.hpp"
#include "ovmf-measure/xen/config_readers.hpp"
#include "ovmf-measure/xen/layout.hpp"
#include "ovmf-measure/xen/start_info.hpp"

namespace sev::launch::xen {
namespace {

bool all_zero(ByteView bytes) {
    return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

} // namespace

Capture::Capture(Prepared& prepared, Domain& domain, ForeignMemory& memory, std::uint32_t domid)
    : prepared_{prepared}, domain_{domain}, memory_{memory}, domid_{domid} {
    for (std::size_t i = 0; i < prepared_.image().ranges.size(); ++i) {
        const measure::XenRange& range = prepared_.image().ranges[i];
        ranges_.push_back({.range = i, .mapping = within(range.label, [&] { return memory_.map(domid_, range.gfn, range.pages, MapAccess::read); })});
        if (range.label == "acpi_tables")
            if (const auto build = measure::build_of_tables(ranges_.back().mapping.bytes()); build && *build != prepared_.image().build)
                prepared_.set_build(*build);
    }
}

void Capture::range_differences(const CapturedRange& one, const std::vector<WrittenSlot>& written, std::vector<std::string>& out) const {
    const measure::XenRange& range = prepared_.image().ranges[one.range];
    std::uint64_t slot_bytes = 0; // of a slot at the front, which is no longer as predicted
    for (const GuestSlot& slot : prepared_.slots()) {
        const auto known = std::ranges::find(written, slot.name, &WrittenSlot::name);
        if (psp::raw(slot.gpa) != range.gpa() || known == written.end()) continue;
        slot_bytes = slot.length_bytes;
        if (sha256(ByteView{one.mapping.bytes()}.first(slot.length_bytes)) != known->sha256)
            out.push_back(fmt::format("{}: slot {} does not hold what was written to it", range.label, slot.name));
    }
    if (const auto found = difference(range, one.mapping.bytes(), slot_bytes)) out.push_back(found->text());
}

void Capture::state_differences(std::vector<std::string>& out) {
    const DomainState state = domain_.state();
    const measure::XenGuestConfig& config = prepared_.config();
    if (state.domid != domid_) out.push_back(fmt::format("domain: its id is {}, want {}", state.domid, domid_));
    if (state.type != measure::name(config.type))
        out.push_back(fmt::format("domain: is of type {}, want {}", printable(state.type), measure::name(config.type)));
    if (!state.paused || state.shutdown || state.dying) out.push_back("domain: is not paused");
    if (state.has_run) out.push_back("domain: has run already");
    if (state.vcpus != config.vcpus) out.push_back(fmt::format("domain: has {} vCPUs, want {}", state.vcpus, config.vcpus));
    if (const auto want = prepared_.image().total_pages; want && state.pages != *want)
        out.push_back(fmt::format("domain: has {} pages of memory, want {}", state.pages, *want));
}

void Capture::module_differences(std::vector<std::string>& out) {
    if (prepared_.config().type != measure::XenGuestType::hvm) return; // hvmloader alone asks for it
    const auto shown = [](const std::optional<ModulePlace>& place) {
        return place ? fmt::format("at {:#x} + {} bytes", place->gpa, place->length_bytes) : std::string{"nowhere"};
    };
    std::optional<ModulePlace> want;
    if (const measure::XenRange* const range = prepared_.image().find("smbios_module"))
        want = {.gpa = range->gpa(), .length_bytes = range->pieces.front().bytes.size()}; // its file, whole
    if (const auto place = domain_.smbios_module(); place != want)
        out.push_back(fmt::format("smbios_module: xenstore's hvmloader/smbios says that it lies {}, want {}", shown(place), shown(want)));
}

void Capture::vcpus_differences(std::vector<std::string>& out) {
    Bytes context = domain_.context();
    for (std::string& text : vcpu_differences(context, prepared_.image().vcpu0, prepared_.config().vcpus)) out.push_back(std::move(text));
    if (!first_context_) first_context_ = std::move(context);
    else
        for (std::string& text : vcpu_changes(*first_context_, context)) out.push_back(std::move(text));
}

std::vector<std::string> Capture::differences(const std::vector<WrittenSlot>& written) {
    std::vector<std::string> out;
    state_differences(out);
    for (const CapturedRange& one : ranges_) range_differences(one, written, out);
    module_differences(out);
    vcpus_differences(out);
    return out;
}

void Capture::clear_unwritten() {
    for (const CapturedRange& one : ranges_) {
        const measure::XenRange& range = prepared_.image().ranges[one.range];
        for (const measure::XenUnwritten& part : range.unwritten) {
            if (all_zero(ByteView{one.mapping.bytes()}.subspan(part.offset_bytes, part.length_bytes))) continue;
            const Mapping writable = memory_.map(domid_, range.gfn, range.pages, MapAccess::write);
            std::ranges::fill(writable.bytes().subspan(part.offset_bytes, part.length_bytes), std::uint8_t{0});
        }
    }
}

measure::XenMeasurement Capture::measure() const {
    // the pages, in place of the prediction's pieces
    measure::XenImage image = prepared_.image();
    for (std::size_t i = 0; i < image.ranges.size(); ++i) {
        image.ranges[i].pieces = {{.offset_bytes = 0, .bytes = ranges_[i].mapping.bytes()}};
        image.ranges[i].unwritten.clear();
    }
    return measure::measure(image, measure::XenOrder::ascending_gfn);
}

measure::AcpiReference capture_acpi(Domain& domain, ForeignMemory& memory, const std::string& libxenlight) {
    const DomainState state = domain.state();
    if (state.type != "pvh")
        throw Error{Fault::usage, fmt::format("domain {}: is of type {}, want pvh: other guests have no ACPI pages from the toolstack", state.domid,
                                              printable(state.type))};
    if (!state.paused || state.has_run)
        throw Error{Fault::usage, fmt::format("domain {}: has run, want one that was created paused", state.domid), "xl create -p"};
    const measure::XenGuestConfig config = measure::read_libxl_json(domain.config(), fmt::format("domain {}", state.domid));
    using namespace measure::xen_layout;
    const std::uint64_t info_gfn = acpi_info_gpa / page_bytes;
    const Mapping info = memory.map(state.domid, info_gfn, 1, MapAccess::read);
    // the RSDP is the page after the tables; how many these are shows in where it begins
    std::vector<Mapping> pages;
    for (std::uint64_t i = 0; i <= measure::AcpiReference::table_page_limit; ++i) {
        Mapping page = memory.map(state.domid, info_gfn + 1 + i, 1, MapAccess::read);
        const bool rsdp = as_text(ByteView{page.bytes()}.first(8)) == "RSD PTR ";
        pages.push_back(std::move(page));
        if (!rsdp) continue;
        Bytes tables;
        for (std::size_t table = 0; table + 1 < pages.size(); ++table)
            tables.insert(tables.end(), pages[table].bytes().begin(), pages[table].bytes().end());
        return measure::AcpiReference::from_pages(libxenlight, config.vcpus, config.online, info.bytes(), tables,
                                                  ByteView{pages.back().bytes()}.first(measure::AcpiReference::rsdp_bytes));
    }
    throw Error{Fault::malformed, fmt::format("domain {}: no RSDP follows the ACPI tables at {:#x}", state.domid, acpi_info_gpa),
                "use a kernel that takes its RSDP anywhere (Linux 4.17 or newer)"};
}

} // namespace sev::launch::xen
