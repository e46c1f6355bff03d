// SPDX-License-Identifier: Apache-2.0
// Initial images of small guests. Expected values: tests/fixtures/xen/make.py, which works them out on its own.
#include <algorithm>
#include <map>

#include "base/crypto.hpp"
#include "ovmf-measure/xen/predict.hpp"
#include "ovmf-measure/xen/start_info.hpp"
#include "tests/measure/support.hpp"

namespace {

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

const json::Value& xen_answers() {
    static const json::Value value = json::parse(read_text(fixture("xen/answers.json"), 1U << 20), "answers.json");
    return value;
}

Bytes content(std::string_view name) { return read_file(fixture("xen") / name, 1U << 20); }

AcpiReference reference(std::string_view name, XenVersion version = {4, 17, 7}) {
    AcpiReference out = AcpiReference::from_json(json::parse(as_text(content(name)), name), name);
    out.xen_version = version;
    return out;
}

/// A guest of the fixtures, as prediction takes it.
struct Guest {
    XenGuestConfig config{};
    XenVersion version{4, 17, 7};
    std::optional<AcpiReference> acpi{};
    std::map<std::string, Bytes> bytes{};
    XenFiles files{};

    void give(std::optional<XenFile>& to, std::string_view name) {
        Bytes& kept = bytes[std::string{name}] = content(name);
        to = XenFile{.bytes = kept, .name = std::string{name}};
    }
    XenImage predict() const { return predict_xen(config, files, version, acpi ? &*acpi : nullptr); }
};

Guest pvh(std::string_view kernel, std::optional<std::string> cmdline, std::uint64_t mib, std::string_view acpi,
          std::optional<std::string_view> ramdisk = {}, XenVersion version = {4, 17, 7}) {
    Guest out;
    out.version = version;
    out.acpi = reference(acpi, version);
    out.config.memory_kib = mib * 1024;
    out.config.vcpus = out.acpi->vcpus;
    out.config.online = out.acpi->online;
    out.config.cmdline = std::move(cmdline);
    out.config.kernel = std::string{kernel};
    out.give(out.files.kernel, kernel);
    if (ramdisk) {
        out.config.ramdisk = std::string{*ramdisk};
        out.give(out.files.ramdisk, *ramdisk);
    }
    return out;
}

Guest hvm(std::uint64_t mib, XenVga vga, unsigned vcpus, bool modules = false) {
    Guest out;
    out.config.type = XenGuestType::hvm;
    out.config.memory_kib = mib * 1024;
    out.config.vga = vga;
    out.config.video_kib = default_video_kib(vga);
    out.config.vcpus = vcpus;
    out.config.online = first_vcpus(std::min(vcpus, 2U));
    out.give(out.files.hvmloader, "hvmloader.elf");
    out.give(out.files.firmware, "bios.bin");
    if (modules) {
        out.config.acpi_firmware = "ssdt.bin";
        out.config.smbios_firmware = "smbios.bin";
        out.give(out.files.acpi_module, "ssdt.bin");
        out.give(out.files.smbios_module, "smbios.bin");
    }
    return out;
}

void compare(const json::Value& want, const XenImage& image) {
    const XenMeasurement measured = measure::measure(image, XenOrder::ascending_gfn);
    CHECK(hex(measured.digest) == want.at("digest").get<std::string>());
    CHECK(image.vcpu0.rip == want.at("rip").get<std::uint64_t>());
    CHECK(image.vcpu0.rbx == want.at("rbx").get<std::uint64_t>());
    CHECK(image.total_pages == want.at("total_pages").get<std::uint64_t>());
    std::uint64_t populated = 0;
    for (const XenRun& run : image.populated) populated += run.pages;
    const XenRange* acpi_module = image.find("acpi_module");
    const XenRange* rsdp = image.find("acpi_rsdp");
    // pages that were populated twice are counted twice, and mapped once
    CHECK(populated + (acpi_module ? acpi_module->pages : 0) + (rsdp && rsdp->gfn == 0xFF ? 1 : 0) == image.total_pages);
    REQUIRE(measured.regions.size() == want.at("ranges").size());
    for (std::size_t i = 0; i < measured.regions.size(); ++i) {
        CHECK(measured.regions[i].label == want["ranges"][i]["label"].get<std::string>());
        CHECK(measured.regions[i].gpa == want["ranges"][i]["gfn"].get<std::uint64_t>() * 4096);
        CHECK(measured.regions[i].length_bytes == want["ranges"][i]["pages"].get<std::uint64_t>() * 4096);
        CHECK_MESSAGE(hex(measured.regions[i].sha256) == want["ranges"][i]["sha256"].get<std::string>(), measured.regions[i].label);
    }
    if (image.type == XenGuestType::pvh && !(image.ramdisk_by_page_number && image.find("ramdisk")))
        CHECK(hex(digest(image, XenOrder::vates_2025)) == want.at("digest_vates_2025").get<std::string>());
}
void compare_pvh(const char* name, const Guest& guest) {
    CAPTURE(name);
    compare(xen_answers().at("pvh").at(name), guest.predict());
}
void compare_hvm(const char* name, const Guest& guest) {
    CAPTURE(name);
    compare(xen_answers().at("hvm").at(name), guest.predict());
}

Digest digest_of(const Guest& guest) { return digest(guest.predict(), XenOrder::ascending_gfn); }

} // namespace

TEST_CASE("predict_xen: PVH guests, worked out independently in Python") {
    const std::string line = "console=hvc0 root=/dev/xvda";
    compare_pvh("plain", pvh("kernel.elf", std::nullopt, 128, "acpi-2-2.json"));
    compare_pvh("empty cmdline", pvh("kernel.elf", "", 128, "acpi-2-2.json", "ramdisk.cpio"));
    compare_pvh("guest.cfg", pvh("kernel.elf", line, 256, "acpi-2-2.json", "ramdisk.cpio"));
    compare_pvh("gzip ramdisk", pvh("kernel.elf", "q", 256, "acpi-2-2.json", "ramdisk.gz"));
    compare_pvh("gzip ramdisk 4.20", pvh("kernel.elf", "q", 256, "acpi-2-2.json", "ramdisk.gz", {4, 20, 0}));
    compare_pvh("nvs 4.21", pvh("kernel.elf", "q", 256, "acpi-2-2.json", "ramdisk.cpio", {4, 21, 1}));
    compare_pvh("long cmdline", pvh("kernel.elf", std::string(1808, 'x'), 128, "acpi-2-2.json"));
    compare_pvh("cmdline of one page less", pvh("kernel.elf", std::string(1807, 'x'), 128, "acpi-2-2.json"));
    compare_pvh("high memory", pvh("kernel.elf", std::string(1783, 'x'), 8192, "acpi-4-2.json"));
    compare_pvh("kernel32", pvh("kernel32.elf", "q", 128, "acpi-1-1.json", "ramdisk.cpio"));
    compare_pvh("firmware", pvh("firmware-kernel.elf", std::nullopt, 128, "acpi-1-1.json"));
    const Guest guest = pvh("kernel.elf", line, 256, "acpi-2-2.json", "ramdisk.cpio"); // the files outlive the image
    const XenImage first = guest.predict();
    const auto later = first.later_build();
    REQUIRE(later);
    compare(xen_answers().at("pvh").at("later"), *later);
    CHECK(later->build == XenBuild::later);
    CHECK_FALSE(hvm(256, XenVga::none, 1).predict().later_build());
}

TEST_CASE("predict_xen: start_info grows to a second page with the command line, one character earlier or later") {
    CHECK(pvh("kernel.elf", std::string(1807, 'x'), 128, "acpi-2-2.json").predict().find("start_info")->pages == 1);
    CHECK(pvh("kernel.elf", std::string(1808, 'x'), 128, "acpi-2-2.json").predict().find("start_info")->pages == 2);
    CHECK(pvh("kernel.elf", std::string(1783, 'x'), 8192, "acpi-4-2.json").predict().find("start_info")->pages == 1);
    CHECK(pvh("kernel.elf", std::string(1784, 'x'), 8192, "acpi-4-2.json").predict().find("start_info")->pages == 2);
}

TEST_CASE("predict_xen: HVM guests, worked out independently in Python") {
    compare_hvm("hvm.cfg", hvm(512, XenVga::stdvga, 2));
    compare_hvm("modules", hvm(256, XenVga::none, 2, true));
    Guest no_apic = hvm(5000, XenVga::stdvga, 4);
    no_apic.config.apic = false;
    compare_hvm("no apic, high memory", no_apic);
    Guest hole = hvm(4096, XenVga::none, 1);
    hole.config.mmio_hole_kib = 1 << 20;
    compare_hvm("mmio hole", hole);
    Guest newer = hvm(256, XenVga::none, 2, true);
    newer.version = {4, 21, 0};
    compare_hvm("modules 4.21", newer);
    const XenImage image = hvm(256, XenVga::none, 2, true).predict();
    CHECK(image.find("acpi_module")->unwritten == std::vector<XenUnwritten>{{64, 4032}});
    CHECK(image.find("smbios_module")->unwritten.empty());
    CHECK_THROWS_WITH_AS(digest(image, XenOrder::vates_2025), "page order vates-2025: is for PVH guests alone, want ascending-gfn", Error);
}

TEST_CASE("predict_xen: a kernel is the same however it is packed") {
    const Digest want = digest_of(pvh("kernel.elf", "q", 128, "acpi-2-2.json"));
    for (const char* name : {"kernel.elf.gz", "kernel.gzip", "kernel.xz", "kernel.lzma", "kernel.lz4", "kernel.zst"}) {
        CAPTURE(name);
        CHECK(digest_of(pvh(name, "q", 128, "acpi-2-2.json")) == want);
    }
    CHECK(message_of([] { return digest_of(pvh("kernel.bzip2", "q", 128, "acpi-2-2.json")); }) ==
          "kernel.bzip2: payload at 420h: bzip2 compression, which xen-sev does not unpack");
    CHECK(message_of([] { return digest_of(pvh("kernel.lzo", "q", 128, "acpi-2-2.json")); }) ==
          "kernel.lzo: payload at 420h: LZO compression, which xen-sev does not unpack");
}

TEST_CASE("predict_xen: what the builder does to ramdisks, before and since 4.20") {
    for (const auto& [key, want] : xen_answers().at("ramdisks").items()) {
        const auto& name = key; // Clang 14 does not capture a structured binding
        CAPTURE(name);
        for (const bool unpacks : {true, false}) {
            const Guest guest = pvh("kernel.elf", "q", 128, "acpi-2-2.json", name, unpacks ? XenVersion{4, 19, 5} : XenVersion{4, 20, 0});
            const XenImage image = guest.predict();
            const XenRange* ramdisk = image.find("ramdisk");
            REQUIRE(ramdisk);
            Bytes bytes;
            ramdisk->visit([&](ByteView part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
            const auto size = want.at(unpacks ? "unpacked_size" : "raw_size").get<std::size_t>();
            REQUIRE(bytes.size() == (size + 4095) / 4096 * 4096);
            CHECK(std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(size), bytes.end(), [](std::uint8_t b) { return b == 0; }));
            bytes.resize(size);
            CHECK(hex(sha256(bytes)) == (unpacks ? want.at("unpacked_sha256").get<std::string>() : hex(sha256(content(name)))));
        }
    }
}

TEST_CASE("predict_xen: one changed byte of any file, or one changed setting, changes the digest") {
    const auto make = [] { return pvh("kernel.elf", "console=hvc0", 128, "acpi-2-2.json", "ramdisk.cpio"); };
    const Digest want = digest_of(make());
    const auto differs = [&](auto&& change) {
        Guest guest = make();
        change(guest);
        CHECK(digest_of(guest) != want);
    };
    differs([](Guest& g) { g.bytes["kernel.elf"].at(0x100) ^= 1; });
    differs([](Guest& g) { g.bytes["ramdisk.cpio"].at(4999) ^= 1; });
    differs([](Guest& g) { g.config.cmdline = "console=hvc1"; });
    differs([](Guest& g) { g.config.cmdline.reset(); });
    differs([](Guest& g) { g.config.memory_kib += 1024; });
    differs([](Guest& g) {
        g.config.vcpus = 1;
        g.config.online = first_vcpus(1);
        g.acpi = reference("acpi-1-1.json");
    });
}

TEST_CASE("predict_xen: refuses what it cannot predict, and says why") {
    const auto refused = [](Guest guest, std::string_view says) {
        const std::string message = message_of([&] { return guest.predict(); });
        CHECK_MESSAGE(message.find(says) != std::string::npos, "got: ", message, "; want: ", says);
    };
    const auto make = [] { return pvh("kernel.elf", "q", 128, "acpi-2-2.json"); };
    const auto changed = [&](auto&& change) {
        Guest guest = make();
        change(guest);
        return guest;
    };
    refused(changed([](Guest& g) { g.acpi.reset(); }), "the ACPI reference is missing, want one for 2 vCPUs, online 0-1, of Xen 4.17.7");
    refused(changed([](Guest& g) { g.config.vcpus = 3; }), "the ACPI reference is for 2 vCPUs, online 0-1, of Xen 4.17.7, want 3 vCPUs");
    refused(changed([](Guest& g) { g.config.online = first_vcpus(1); }), "want 2 vCPUs, online 0");
    refused(changed([](Guest& g) { g.acpi->xen_version = {4, 18, 5}; }), "of Xen 4.18.5, want");
    refused(changed([](Guest& g) {
                g.version = {4, 17, 5};
            }),
            "Xen 4.17.5: the initial image of a pvh guest cannot be predicted: its ACPI pages hold left-over bytes");
    refused(changed([](Guest& g) { g.version = {4, 23, 0}; }), "it is newer than 4.22");
    refused(changed([](Guest& g) { g.config.apic = false; }), "apic is off");
    refused(changed([](Guest& g) { g.config.memory_kib = 16 * 1024; }), "beyond the 0x1000000 bytes of low memory");
    refused(changed([](Guest& g) { g.config.memory_kib += 4; }), "want whole MiB");
    refused(changed([](Guest& g) { g.config.kernel.reset(); }), "kernel is missing");
    refused(changed([](Guest& g) { g.files.kernel.reset(); }), "the kernel is configured, and its bytes are not given");
    refused(changed([](Guest& g) { g.files.ramdisk = g.files.kernel; }), "the ramdisk is given, and not configured");
    refused(changed([](Guest& g) { g.files.kernel->bytes = {}; }), "kernel.elf: 0 bytes, want a kernel");
    refused(changed([](Guest& g) { g.acpi->tables.at(4096) ^= 1; }), "checksum");
    refused(pvh("hvmloader.elf", "q", 128, "acpi-2-2.json"), "no Xen notes, want a kernel with the note PHYS32_ENTRY");
    Guest loader = hvm(256, XenVga::none, 1);
    loader.give(loader.files.hvmloader, "kernel32.elf");
    refused(loader, "kernel32.elf: has Xen notes, want hvmloader");
    loader.give(loader.files.hvmloader, "kernel.elf");
    refused(loader, "kernel.elf: 4h EI_CLASS is 2, want 1");
    const XenImage with_ramdisk = pvh("kernel.elf", "q", 128, "acpi-2-2.json", "ramdisk.cpio").predict();
    CHECK(message_of([&] { return digest(with_ramdisk, XenOrder::vates_2025); }).find("MOD_START_PFN") != std::string::npos);
}

TEST_CASE("XenRange::page: the same bytes as visit, pieces inside, across and beside pages") {
    const Bytes one = Bytes(100, 1), two = Bytes(9000, 2), three = Bytes(1, 3);
    const XenRange range{.label = "x", .source = {}, .gfn = 1, .pages = 5, .pieces = {{50, one}, {150, two}, {12288, three}}, .unwritten = {}};
    Bytes all;
    range.visit([&](ByteView bytes) {
        CHECK_FALSE(bytes.empty());
        all.insert(all.end(), bytes.begin(), bytes.end());
    });
    REQUIRE(all.size() == range.length_bytes());
    for (std::uint64_t i = 0; i < range.pages; ++i) {
        XenPage scratch{};
        scratch.fill(0xEE);
        CHECK(std::ranges::equal(range.page(i, scratch), ByteView{all}.subspan(i * 4096, 4096)));
    }
    XenPage scratch{};
    CHECK(range.page(1, scratch).data() == two.data() + 4096 - 150); // no copy where one piece holds the page
    CHECK_THROWS_AS(range.page(5, scratch), Error);
}

TEST_CASE("start_info: what is written is read; addresses out of the segment are refused") {
    const XenStartInfo info{.cmdline = "a b",
                            .module = XenModule{.gpa = 0x5000, .size_bytes = 77, .cmdline = {}},
                            .rsdp_gpa = 0xFC008000,
                            .memory = {{0, 0x8000000, 1}, {0xFC000000, 4096, 3}}};
    Bytes bytes = info.serialize(0x3000);
    const XenStartInfoView view = XenStartInfoView::parse(bytes, 0x3000);
    CHECK(view.cmdline == "a b");
    CHECK(view.memory == info.memory);
    CHECK(view.modules == std::vector<std::array<std::uint64_t, 2>>{{0x5000, 77}});
    CHECK(view.rsdp_gpa == 0xFC008000);
    for (std::size_t length = 0; length < bytes.size(); ++length)
        CHECK_THROWS_AS(XenStartInfoView::parse(ByteView{bytes}.first(length), 0x3000), Error);
    for (std::size_t byte = 0; byte < 56; ++byte)
        for (unsigned bit = 0; bit < 8; ++bit) {
            Bytes flipped = bytes;
            flipped[byte] = static_cast<std::uint8_t>(flipped[byte] ^ 1U << bit);
            message_of([&] { return XenStartInfoView::parse(flipped, 0x3000); }); // an Error or another view, and nothing else
        }
    CHECK_THROWS_AS(XenStartInfoView::parse(bytes, 0x4000), Error);
}

TEST_CASE("XenVersion and rules") {
    CHECK(XenVersion::parse("4.17.7", "x") == XenVersion{4, 17, 7});
    CHECK(XenVersion::parse("4.17.7+13-g2445b30a44-0+deb12u1", "x") == XenVersion{4, 17, 7});
    CHECK(XenVersion::parse("2001:4.17.5-16.fc37", "x") == XenVersion{4, 17, 5});
    for (const char* text :
         {"", "4", "4.17", "4.17.", "4.17.x", "4.18.0-rc2", "4.22-unstable", "4.17.7.1", "x4.17.7", "4.017.7", ":4.17.7", "4.17.99999999999"})
        CHECK_THROWS_AS(XenVersion::parse(text, "x"), Error);
    for (const auto& [given, predictable] : std::map<std::string, bool>{{"4.16.9", false},
                                                                       {"4.17.5", false},
                                                                       {"4.17.6", true},
                                                                       {"4.18.3", false},
                                                                       {"4.18.4", true},
                                                                       {"4.19.0", false},
                                                                       {"4.19.1", true},
                                                                       {"4.20.0", true},
                                                                       {"4.22.9", true},
                                                                       {"4.23.0", false},
                                                                       {"5.0.0", false}}) {
        const auto& text = given; // Clang 14 does not capture a structured binding
        CAPTURE(text);
        const XenVersion version = XenVersion::parse(text, "x");
        CHECK(message_of([&] { return xen_rules(version, XenGuestType::pvh); }).empty() == predictable);
        const bool known = version >= XenVersion{4, 17, 0} && version < XenVersion{4, 23, 0};
        CHECK(message_of([&] { return xen_rules(version, XenGuestType::hvm); }).empty() == known);
    }
    CHECK(xen_rules({4, 19, 9}, XenGuestType::pvh).gunzips_ramdisk);
    CHECK_FALSE(xen_rules({4, 20, 0}, XenGuestType::pvh).gunzips_ramdisk);
    CHECK_FALSE(xen_rules({4, 20, 9}, XenGuestType::pvh).acpi_is_nvs);
    CHECK(xen_rules({4, 21, 0}, XenGuestType::pvh).acpi_is_nvs);
}

TEST_CASE("coverage: HVM guests begin with what runs unmeasured; firmware as a kernel is said to boot unmeasured") {
    const auto ids = [](const XenImage& image, const XenGuestConfig& config) {
        std::vector<std::string> out;
        for (const CoverageFinding& finding : coverage(image, config)) out.push_back(finding.id);
        return out;
    };
    Guest guest = hvm(256, XenVga::none, 1);
    const auto of_hvm = ids(guest.predict(), guest.config);
    CHECK(of_hvm.front() == "hvm-runs-unmeasured");
    CHECK(std::ranges::find(of_hvm, "direct-kernel-unmeasured") == of_hvm.end());
    guest.config.kernel = "k";
    const auto with_kernel = ids(guest.predict(), guest.config);
    CHECK(std::ranges::find(with_kernel, "direct-kernel-unmeasured") != with_kernel.end());
    const auto unchecked = [&](const Guest& one) {
        const auto all = ids(one.predict(), one.config);
        return std::ranges::find(all, "memory-size-unchecked") != all.end();
    };
    CHECK_FALSE(unchecked(guest));
    guest.config.emulated_nics = true;
    CHECK(unchecked(guest));
    CHECK_FALSE(guest.predict().total_pages);
    const Guest firmware = pvh("firmware-kernel.elf", std::nullopt, 128, "acpi-1-1.json");
    CHECK(ids(firmware.predict(), firmware.config).front() == "firmware-boots-unmeasured");
    const Guest plain = pvh("kernel.elf", std::nullopt, 128, "acpi-2-2.json");
    CHECK(ids(plain.predict(), plain.config).front() == "vcpu-unmeasured");
}
