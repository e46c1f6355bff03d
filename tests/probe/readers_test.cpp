// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <fstream>

#include <sys/stat.h>

#include "launch/probe/collect.hpp"
#include "launch/probe/files.hpp"
#include "launch/probe/xen.hpp"
#include "tests/probe/support.hpp"

namespace sev::probe {
namespace {

void put(const Path& path, std::string_view text) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream{path} << text;
}

/// A PSP that answers what the test says.
class FakePsp : public PspQuestions {
public:
    Reading<bool> readable() override { return true; }
    Reading<bool> writable() override { return Failure{EACCES, "Permission denied"}; }
    Reading<PlatformAnswer> platform_status() override { return PlatformAnswer{.status = 0, .bytes = {0, 17, 1, 0, 1, 0, 0, 48, 2, 0, 0, 0}}; }
    Reading<Bytes> chip_id() override {
        asked_chip_id = true;
        return Bytes(64, 7);
    }
    bool asked_chip_id = false;
};

TEST_CASE("read_line: one line, printable, bounded, and errors told apart") {
    const test::TemporaryDirectory dir;
    put(dir / "two", "first\nsecond\n");
    put(dir / "rude", "a\x1b[31mb\n");
    put(dir / "empty", "");
    put(dir / "long", std::string(100'000, 'x'));
    CHECK(*read_line(dir / "two").value() == "first");
    CHECK(*read_line(dir / "rude").value() == "a\\x1b[31mb");
    CHECK(read_line(dir / "empty").value()->empty());
    CHECK(read_line(dir / "long").failed_with(EFBIG));
    CHECK(read_line(dir / "none").failed_with(ENOENT));
    CHECK(read_line(dir.path()).failed_with(EISDIR));
}

TEST_CASE("read_hexadecimal and read_msr") {
    const test::TemporaryDirectory dir;
    put(dir / "features", "0000ffff00000801\n");
    put(dir / "word", "hello\n");
    CHECK(*read_hexadecimal(dir / "features").value() == 0x0000'FFFF'0000'0801);
    CHECK(read_hexadecimal(dir / "word").failure());
    put(dir / "msr", std::string{"\x01\x02\x03\x04\x05\x06\x07\x08"});
    CHECK(*read_msr(dir / "msr", 0).value() == 0x0807'0605'0403'0201);
    CHECK(read_msr(dir / "msr", 0xC001'0010).failure());
    CHECK(read_msr(dir / "none", 0).failed_with(ENOENT));
}

TEST_CASE("read_psp_devices: AMD's encryption controllers and what ccp has bound, nothing else") {
    const test::TemporaryDirectory dir;
    const Path bus = dir / "sys/bus/pci/devices";
    const auto device = [&](std::string_view at, std::string_view vendor, std::string_view device_id, std::string_view kind,
                            std::string_view driver) {
        put(bus / at / "vendor", vendor);
        put(bus / at / "device", device_id);
        put(bus / at / "class", kind);
        if (!driver.empty()) std::filesystem::create_symlink(Path{"../../drivers"} / driver, bus / at / "driver");
    };
    device("0000:01:00.2", "0x1022\n", "0x1456\n", "0x108000\n", "ccp");
    device("0000:02:00.1", "0x1022\n", "0x1468\n", "0x108000\n", "");
    device("0000:03:00.0", "0x1022\n", "0x1450\n", "0x060000\n", "");
    device("0000:04:00.0", "0x8086\n", "0x1234\n", "0x108000\n", "qat");
    put(bus / "0000:01:00.2/tsme_status", "1\n");
    const auto reading = read_psp_devices(dir.path());
    REQUIRE(reading.value());
    REQUIRE(reading.value()->size() == 2);
    CHECK(reading.value()->at(0) == PspDevice{"0000:01:00.2", "0x1456", "ccp", std::string{"1"}});
    CHECK(reading.value()->at(1).driver.empty());
    CHECK(reading.value()->at(1).tsme_status.failed_with(ENOENT));
    CHECK(read_psp_devices(dir / "elsewhere").failed_with(ENOENT));
}

TEST_CASE("read_cpu_info: the first CPU's microcode, and only the flags that matter") {
    const test::TemporaryDirectory dir;
    put(dir / "proc/cpuinfo",
        "processor\t: 0\nmicrocode\t: 0x8001250\nflags\t\t: fpu svm sme sev sevx ssse3\n\nprocessor\t: 1\nmicrocode\t: 0x1\nflags\t\t: sev_es\n");
    const CpuInfo info = read_cpu_info(dir.path());
    CHECK(*info.microcode.value() == "0x8001250");
    CHECK(*info.flags.value() == "svm sme sev");
    put(dir / "proc/cpuinfo", "processor : 0\n");
    CHECK(read_cpu_info(dir.path()).flags.failure());
}

TEST_CASE("the kernel's command line is not recorded, but for the words about memory encryption") {
    const test::TemporaryDirectory dir;
    put(dir / "proc/cmdline", "root=UUID=0b1c secret=hunter2 mem_encrypt=on kvm_amd.sev=1 quiet\n");
    CHECK(*read_kernel_arguments(dir.path()).value() == "mem_encrypt=on kvm_amd.sev=1");
}

TEST_CASE("about_encryption keeps lines about the matter, cut and printable, and never the command line") {
    const auto lines = about_encryption("<6>[1] Kernel command line: root=/dev/x kvm_amd.sev=1 token=SEV\n<6>[1] Command line: SEV\n[2] usb 1-1: new "
                                        "device\n[3] ccp 0000:01:00.2: SEV API:0.17 build:48\n"
                                        "[4] ccp \x1b[2J" +
                                        std::string(1000, 'a') + "\n[5] SEV supported: 15 ASIDs");
    REQUIRE(lines.size() == 3);
    CHECK(lines[0] == "[3] ccp 0000:01:00.2: SEV API:0.17 build:48");
    CHECK(lines[1].find('\x1b') == std::string::npos);
    CHECK(lines[1].size() <= Bundle::limit_text);
    CHECK(lines[2] == "[5] SEV supported: 15 ASIDs");
    std::string flood;
    for (int i = 0; i < 1000; ++i) flood += "SEV\n";
    CHECK(about_encryption(flood).size() == Bundle::limit_lines);
    CHECK(about_encryption("").empty());
}

TEST_CASE("collect: a tree of dom0, with the helper module missing") {
    const test::TemporaryDirectory dir;
    put(dir / "sys/hypervisor/type", "xen\n");
    put(dir / "sys/hypervisor/version/major", "4\n");
    put(dir / "sys/hypervisor/version/minor", "17\n");
    put(dir / "sys/hypervisor/version/extra", ".4-pre\n");
    put(dir / "sys/hypervisor/guest_type", "PV\n");
    put(dir / "sys/hypervisor/properties/features", "00000801\n");
    put(dir / "sys/hypervisor/uuid", "11111111-2222-3333-4444-555555555555\n");
    put(dir / "proc/xen/capabilities", "control_d\n");
    put(dir / "sys/class/dmi/id/board_name", "M11SDV-4C-LN4F\n");
    put(dir / "sys/class/dmi/id/board_serial", "SERIAL-ZM123\n");
    put(dir / "sys/class/dmi/id/product_uuid", "99999999-8888-7777-6666-555555555555\n");
    put(dir / "dmesg", "[1] ccp 0000:01:00.2: SEV: memory encryption not enabled by BIOS\n");
    FakePsp psp;
    const Probe p =
        collect({.root = dir.path(), .xen_modules = {dir / "no-module.so"}, .kernel_log = dir / "dmesg"}, psp, "test", "2026-01-01T00:00:00Z");
    CHECK(*p.xen_version.value() == "4.17.4-pre");
    CHECK(*p.xen_features.value() == 0x801);
    CHECK(p.xen_module.not_tried());
    CHECK(p.coco_status.not_tried());
    CHECK(p.cpuid_xen_raw.not_tried());
    CHECK(*p.dmi_board_name.value() == "M11SDV-4C-LN4F");
    CHECK(p.kernel_log.value()->size() == 1);
    CHECK(p.sev_device_write.failed_with(EACCES));
    CHECK(p.platform_status.value()->bytes[1] == 17);
    CHECK_FALSE(psp.asked_chip_id);
    CHECK(p.chip_id.not_tried());
    const std::string text = json::pretty(Bundle::to_json(p));
    for (const char* const private_word : {"SERIAL-ZM123", "99999999", "11111111-2222"}) CHECK(text.find(private_word) == std::string::npos);
    CHECK(Bundle::parse(text, "recorded") == p);

    const Report report = assess(p);
    CHECK(report.machine.place == Place::xen_dom0);
    CHECK(report.level.level == 0);
    CHECK_FALSE(report.level.might_be_higher.empty());
}

TEST_CASE("collect asks for the chip id only when told to") {
    const test::TemporaryDirectory dir;
    FakePsp psp;
    const Probe p = collect({.root = dir.path(), .with_chip_id = true}, psp, "test", "");
    CHECK(psp.asked_chip_id);
    CHECK(p.chip_id.value()->size() == 64);
    CHECK(p.xen_type.failed_with(ENOENT));
    CHECK(p.coco_status.not_tried());
}

TEST_CASE("ask_xen: a module that is no library is a failure with a reason") {
    const test::TemporaryDirectory dir;
    put(dir / "module.so", "not a library");
    Probe p;
    ask_xen(p, {dir / "absent.so", dir / "module.so"});
    REQUIRE(p.xen_module.failure());
    CHECK(p.xen_module.failure()->text.find("module.so") != std::string::npos);
    CHECK(p.xen_control.not_tried());
}

TEST_CASE("SevDevice and kvm_api_version: what is absent or no such device is an errno, not an error") {
    const test::TemporaryDirectory dir;
    put(dir / "file", "x");
    SevDevice absent{dir / "none"}, plain_file{dir / "file"};
    CHECK(absent.readable().failed_with(ENOENT));
    CHECK(absent.platform_status().failed_with(ENOENT));
    CHECK(absent.chip_id().failed_with(ENOENT));
    CHECK(plain_file.platform_status().failed_with(ENOTTY));
    CHECK(plain_file.chip_id().failed_with(ENOTTY));
    CHECK(kvm_api_version(dir / "file").failed_with(ENOTTY));
}

} // namespace
} // namespace sev::probe
