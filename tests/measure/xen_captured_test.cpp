// SPDX-License-Identifier: Apache-2.0
// Images captured from paused guests on a real Xen 4.17.7 (shared vectors, xen/captured.json), predicted from their files.
#include <algorithm>
#include <set>

#include <fmt/ranges.h>

#include "ovmf-measure/xen/start_info.hpp"
#include "tests/measure/xen_support.hpp"

namespace {

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

constexpr std::uint64_t mib = 1 << 20;

/// A file of the capture: from the JSON where it is there whole, otherwise by its rule or from Debian's packages.
std::optional<Bytes> file_of(const json::Value& files, const std::string& name) {
    const json::Value& file = files.at(name);
    Bytes out;
    const auto size = file.at("size").get<std::size_t>();
    if (file.contains("base64")) out = unbase64(file["base64"].get<std::string>(), name);
    else if (file.contains("zlib_base64")) out = unzlib(unbase64(file["zlib_base64"].get<std::string>(), name), size);
    else if (name == "rd_a") for (std::size_t i = 0; i < size; ++i) out.push_back(static_cast<std::uint8_t>(13 * i + 5));
    else if (name == "fw_small.bin") for (std::size_t i = 0; i < size; ++i) out.push_back(static_cast<std::uint8_t>((11 * i + 1) % 251));
    else if (const auto path = debian_file(name)) out = read_file(*path, 64 * mib);
    else return std::nullopt;
    REQUIRE_MESSAGE(hex(sha256(out)) == file.at("sha256").get<std::string>(), name);
    return out;
}

std::uint64_t number(const json::Value& value) { return std::stoull(value.get<std::string>(), nullptr, 0); }
std::optional<std::string> text_of(const json::Value& config, const char* key) {
    return config.contains(key) && config[key].is_string() ? std::optional{config[key].get<std::string>()} : std::nullopt;
}

/// A case's configuration and the bytes of its files.
struct Input {
    XenGuestConfig config;
    std::vector<std::unique_ptr<Bytes>> bytes;
    XenFiles files;
    std::set<std::string> missing; // files that are not at hand

    Input(const json::Value& all, const json::Value& one) {
        const json::Value& from = one.at("config");
        config.name = one.at("name").get<std::string>();
        config.type = one.at("type") == "pvh" ? XenGuestType::pvh : XenGuestType::hvm;
        config.memory_kib = from.at("memory_mib").get<std::uint64_t>() * 1024;
        config.video_kib = from.at("video_mib").get<std::uint64_t>() * 1024;
        config.vcpus = from.at("max_vcpus").get<unsigned>();
        config.online = first_vcpus(from.at("online_vcpus").get<unsigned>());
        config.apic = from.at("apic").get<bool>();
        const auto give = [&](const std::optional<std::string>& name, std::optional<XenFile>& to) {
            if (!name) return;
            auto content = file_of(all.at("files"), *name);
            if (!content) {
                missing.insert(*name);
                return;
            }
            bytes.push_back(std::make_unique<Bytes>(std::move(*content)));
            to = XenFile{.bytes = *bytes.back(), .name = *name};
        };
        if (config.type == XenGuestType::pvh) {
            config.kernel = text_of(from, "kernel");
            config.ramdisk = text_of(from, "ramdisk");
            config.cmdline = text_of(from, "cmdline");
            give(config.kernel, files.kernel);
            give(config.ramdisk, files.ramdisk);
            return;
        }
        config.firmware = from.at("bios") == "ovmf" ? XenFirmware::ovmf : XenFirmware::seabios;
        config.vga = from.at("vga") == "stdvga" ? XenVga::stdvga : XenVga::none;
        config.acpi_firmware = text_of(from, "acpi_firmware");
        config.smbios_firmware = text_of(from, "smbios_firmware");
        give(text_of(from, "hvmloader"), files.hvmloader);
        give(text_of(from, "firmware"), files.firmware);
        give(config.acpi_firmware, files.acpi_module);
        give(config.smbios_firmware, files.smbios_module);
    }
};

/// The shared vectors; nullptr, said aloud by each test that asks, where they are absent.
const json::Value* captured() {
    static std::optional<json::Value> value;
    if (!value)
        if (const auto path = vector_file("xen/captured.json")) value = json::parse(read_text(*path, mib), "captured.json");
    return value ? &*value : nullptr;
}

constexpr XenVersion debian{4, 17, 7};

/// The case predicted; nothing, with what is missing on this machine in `missing`, when it could not be.
std::optional<XenImage> predict(const Input& input, unsigned before, std::set<std::string>& missing) {
    missing.insert(input.missing.begin(), input.missing.end());
    if (!input.missing.empty()) return std::nullopt;
    std::optional<AcpiReference> acpi;
    if (input.config.type == XenGuestType::pvh) {
        acpi = libxl_acpi(input.config.vcpus, static_cast<unsigned>(input.config.online.count()));
        if (!acpi) {
            missing.insert("libxenlight 4.17");
            return std::nullopt;
        }
    }
    XenImage first = predict_xen(input.config, input.files, debian, acpi ? &*acpi : nullptr);
    if (before == 0) return first;
    auto later = first.later_build();
    REQUIRE(later);
    return later;
}

Bytes content(const XenRange& range) {
    Bytes out;
    range.visit([&](ByteView bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); });
    return out;
}

void compare_start_info(const json::Value& want, const XenImage& image) {
    const XenRange* range = image.find("start_info");
    REQUIRE(range);
    const Bytes bytes = content(*range);
    CHECK(hex(ByteView{bytes}.first(56)) == want.at("header_hex").get<std::string>());
    const auto used = want.at("bytes_used").get<std::size_t>();
    CHECK(used <= bytes.size());
    CHECK(std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(used), bytes.end(), [](std::uint8_t b) { return b == 0; }));
    const XenStartInfoView view = XenStartInfoView::parse(bytes, range->gpa());
    REQUIRE(view.memory.size() == want.at("memmap").size());
    for (std::size_t i = 0; i < view.memory.size(); ++i) {
        CHECK(view.memory[i].gpa == number(want["memmap"][i][0]));
        CHECK(view.memory[i].size_bytes == number(want["memmap"][i][1]));
        CHECK(view.memory[i].type == want["memmap"][i][2].get<std::uint32_t>());
    }
    REQUIRE(view.modules.size() == want.at("modlist").size());
    for (std::size_t i = 0; i < view.modules.size(); ++i) {
        CHECK(view.modules[i][0] == number(want["modlist"][i]["paddr"]));
        CHECK(view.modules[i][1] == number(want["modlist"][i]["size"]));
    }
}

void compare(const json::Value& one, const Input& input, const XenImage& image) {
    const XenMeasurement measured = measure::measure(image, XenOrder::ascending_gfn);
    REQUIRE(image.ranges.size() == one.at("ranges").size());
    REQUIRE(measured.regions.size() == image.ranges.size());
    Sha256 three; // kernel, ramdisk, start_info in ascending order
    for (std::size_t i = 0; i < image.ranges.size(); ++i) {
        const json::Value& want = one["ranges"][i];
        const XenRange& range = image.ranges[i];
        CHECK(range.label == want.at("label").get<std::string>());
        CHECK(range.gfn == number(want.at("gfn")));
        CHECK(range.pages == want.at("pages").get<std::uint64_t>());
        CHECK_MESSAGE(hex(measured.regions[i].sha256) == want.at("sha256").get<std::string>(), range.label);
        CHECK(measured.regions[i].gpa == range.gpa());
        CHECK(measured.regions[i].length_bytes == range.length_bytes());
        if (range.label == "kernel" || range.label == "ramdisk" || range.label == "start_info")
            range.visit([&](ByteView bytes) { three.update(bytes); });
        XenPage scratch{}; // page by page it is the same
        Sha256 pages;
        for (std::uint64_t page = 0; page < range.pages; ++page) pages.update(range.page(page, scratch));
        CHECK(pages.finish() == measured.regions[i].sha256);
    }
    CHECK(hex(measured.digest) == one.at("digest_ascending").get<std::string>());
    CHECK(digest(image, XenOrder::ascending_gfn) == measured.digest);
    CHECK(measured.later_digest.has_value() == (image.type == XenGuestType::pvh && image.build == XenBuild::first));
    if (measured.later_digest) CHECK(*measured.later_digest == digest(*image.later_build(), XenOrder::ascending_gfn));
    if (one.contains("digest_kernel_ramdisk_start_info")) CHECK(hex(three.finish()) == one["digest_kernel_ramdisk_start_info"].get<std::string>());
    if (one.contains("digest_vates_2025")) CHECK(hex(digest(image, XenOrder::vates_2025)) == one["digest_vates_2025"].get<std::string>());
    else CHECK_THROWS_AS(digest(image, XenOrder::vates_2025), Error);
    compare_start_info(one.at("start_info"), image);
    if (one.contains("hvm_info_hex"))
        CHECK(hex(ByteView{content(*image.find("hvm_info"))}.subspan(0x800, 48)) == one["hvm_info_hex"].get<std::string>());

    CHECK(image.vcpu0.rip == number(one.at("vcpu0").at("rip")));
    CHECK(image.vcpu0.rbx == number(one["vcpu0"].at("rbx")));
    CHECK(image.vcpu0.rflags == number(one["vcpu0"].at("rflags")));
    CHECK(image.vcpu0.cr0 == number(one["vcpu0"].at("cr0")));
    CHECK(image.vcpu0.dr6 == number(one["vcpu0"].at("dr6")));
    CHECK(image.vcpu0.dr7 == number(one["vcpu0"].at("dr7")));
    const auto segment = [](const XenSegment& s) { return fmt::format("{:x}:{:x}/{:x}/{:x}", s.selector, s.base, s.limit, s.attributes); };
    CHECK(segment(image.vcpu0.cs) == one["vcpu0"].at("cs").get<std::string>());
    for (const char* name : {"ds", "es", "ss"}) CHECK(segment(image.vcpu0.data) == one["vcpu0"].at(name).get<std::string>());
    CHECK(segment(image.vcpu0.tr) == one["vcpu0"].at("tr").get<std::string>());
    for (const json::Value& type : one.at("mtrr_def_type")) CHECK(image.vcpu0.mtrr_def_type == number(type));

    CHECK(image.total_pages == one.at("nr_pages").get<std::uint64_t>());
    if (!one.at("populated").is_null()) {
        REQUIRE(image.populated.size() == one["populated"].size());
        for (std::size_t i = 0; i < image.populated.size(); ++i)
            CHECK(image.populated[i] == XenRun{number(one["populated"][i][0]), one["populated"][i][1].get<std::uint64_t>()});
    }
    for (const json::Value& page : one.at("nonzero_outside")) {
        const auto shared = std::ranges::find(image.shared, number(page.at("gfn")), &XenRange::gfn);
        REQUIRE(shared != image.shared.end());
        if (shared->label == "ident_pt") CHECK(hex(sha256(content(*shared))) == page.at("sha256").get<std::string>());
        else CHECK(shared->label == "xenstore");
    }
    const auto findings = coverage(image, input.config);
    CHECK(!findings.empty());
    CHECK((findings.front().id == "hvm-runs-unmeasured") == (input.config.type == XenGuestType::hvm));
}

} // namespace

TEST_CASE("predict_xen: every image captured on Xen 4.17.7, byte for byte") {
    const json::Value* all = captured();
    if (!all) return;
    REQUIRE(all->at("cases").size() == 33);
    std::size_t done = 0;
    std::set<std::string> missing;
    for (const json::Value& one : all->at("cases")) {
        const std::string name = one.at("name").get<std::string>();
        CAPTURE(name);
        const Input input{*all, one};
        const auto image = predict(input, one.at("pvh_builds_before_in_process").get<unsigned>(), missing);
        if (!image) continue;
        compare(one, input, *image);
        ++done;
    }
    if (missing.empty()) CHECK(done == 33);
    else
        fmt::print("SKIPPED: {} of 33 captured images, for want of {} (tests/fixtures/xen/debian_files.py fetches files)\n", 33 - done,
                   fmt::join(missing, ", "));
    fmt::print("{} of 33 captured images predicted\n", done);
}

TEST_CASE("predict_xen: ACPI pages have type NVS from Xen 4.21 on (xen.md C.12, case 3 with the same tables)") {
    const json::Value* all = captured();
    if (!all) return;
    const auto& cases = all->at("cases");
    const auto c3 = std::find_if(cases.begin(), cases.end(), [](const json::Value& one) { return one.at("name") == "c3"; });
    REQUIRE(c3 != cases.end());
    const Input input{*all, *c3};
    auto acpi = libxl_acpi(4, 4);
    if (!acpi) return;
    acpi->xen_version = {4, 21, 0};
    const XenImage image = predict_xen(input.config, input.files, {4, 21, 0}, &*acpi);
    CHECK(hex(sha256(content(*image.find("start_info")))) == "9fbd8525d81dc8584f258903db29a9312b3bc08a7d1f48dd0203492d3dc70d6c");
    CHECK(hex(digest(image, XenOrder::ascending_gfn)) == "82c5ea23be61aa314944750fc6fa95fba91dc668ace85d7c060947ea4afc2760");
    CHECK(hex(digest(image, XenOrder::vates_2025)) == "02ce40df8b62dbff794a55bcd2962cc4a79b144ad7ff9526fce2515c19b987bc");
}

TEST_CASE("AcpiReference: both builds of one process, for 1 to 3 vCPUs (xen.md C.12)") {
    const std::map<unsigned, std::string> later{{1, "d24537c87bf9c9ceadd4c674c1df75381647a9b77c315d51ea496fb3d742cffc"},
                                                {2, "675d89866d0ffee652a44ed94f97adf877ba9ab3e82a205ac6701490e8e927b2"},
                                                {3, "efa95d3e714be10843e0e0e64bce793bcb6d8f50055b5cbfe7c69004ad0e1ecf"}};
    for (const auto& [vcpus, want] : later) {
        const auto first = libxl_acpi(vcpus, vcpus), second = libxl_acpi(vcpus, vcpus, 1);
        if (!first || !second) return;
        CHECK(hex(sha256(first->tables_of(XenBuild::later))) == want);
        CHECK(*first == *second); // a reference taken from a later build is turned into the first one's
    }
}
