// SPDX-License-Identifier: Apache-2.0
// xl.cfg, libxl's JSON and libvirt's XML: the same guest in three languages, and what each must refuse by name.
#include "ovmf-measure/xen/config_readers.hpp"
#include "ovmf-measure/xen/xml.hpp"
#include "tests/measure/support.hpp"

namespace {

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

std::string text_of(std::string_view name) { return read_text(fixture("xen") / name, 1U << 20); }

const XenGuestConfig& guest() {
    static const XenGuestConfig out = [] {
        XenGuestConfig config;
        config.name = "guest";
        config.memory_kib = 256 * 1024;
        config.vcpus = 2;
        config.online = first_vcpus(2);
        config.kernel = "kernel.elf";
        config.ramdisk = "ramdisk.cpio";
        config.cmdline = "console=hvc0 root=/dev/xvda";
        return config;
    }();
    return out;
}

/// A whole xl.cfg around some lines.
std::string xl(std::string_view more, std::string_view type = "pvh") {
    return fmt::format("type = \"{}\"\nmemory = 128\n{}{}\n", type, type == "pvh" ? "kernel = 'k'\n" : "", more);
}
std::string refused_xl(std::string_view text) {
    return message_of([&] { return read_xl_config(text, "f"); });
}
std::string refused_json(std::string_view build, std::string_view top = "", std::string_view type = "pvh") {
    const std::string text = fmt::format(R"({{"c_info": {{"type": "{}"}}, "b_info": {{"max_memkb": 131072, "kernel": "k"{}}}{}}})", type, build, top);
    return message_of([&] { return read_libxl_json(text, "f"); });
}
std::string xml(std::string_view domain, std::string_view os = "", std::string_view devices = "", std::string_view type = "xenpvh") {
    return fmt::format("<domain type='xen'><memory>131072</memory><os><type>{}</type><kernel>k</kernel>{}</os>{}<devices>{}</devices></domain>", type,
                       os, domain, devices);
}
std::string refused_xml(const std::string& text) {
    return message_of([&] { return read_libvirt_xml(text, "f"); });
}

} // namespace

TEST_CASE("readers: the same guest from xl.cfg, JSON and XML") {
    CHECK(read_xl_config(text_of("guest.cfg"), "guest.cfg") == guest());
    CHECK(read_libxl_json(text_of("guest.json"), "guest.json") == guest());
    CHECK(read_libvirt_xml(text_of("guest.xml"), "guest.xml") == guest());
    XenGuestConfig hvm;
    hvm.type = XenGuestType::hvm;
    hvm.name = "hvm";
    hvm.memory_kib = 512 * 1024;
    hvm.video_kib = 16 * 1024;
    hvm.vcpus = 2;
    hvm.online = first_vcpus(2);
    hvm.vga = XenVga::stdvga;
    hvm.system_firmware = "bios.bin";
    hvm.hvmloader = "hvmloader.elf";
    CHECK(read_xl_config(text_of("hvm.cfg"), "hvm.cfg") == hvm);
    CHECK(read_libxl_json(text_of("hvm.json"), "hvm.json") == hvm);
    hvm.memory_kib = 1 << 20;
    hvm.online = first_vcpus(1);
    hvm.firmware = XenFirmware::ovmf;
    hvm.hvmloader.reset();
    CHECK(read_libvirt_xml(text_of("hvm.xml"), "hvm.xml") == hvm);
}

TEST_CASE("read_xl_config: the language") {
    const auto read = [](std::string_view more) { return read_xl_config(xl(more), "f"); };
    CHECK_FALSE(read("").cmdline);
    CHECK(read("cmdline = \"\"").cmdline == "");
    CHECK(read("root = '/dev/xvda'").cmdline == "root=/dev/xvda");
    CHECK(read("root = 'r'\nextra='ro quiet'").cmdline == "root=r ro quiet");
    CHECK(read("extra='ro'").cmdline == "ro");
    CHECK(read("root='r'\ncmdline='c'").cmdline == "c"); // xl prefers it
    CHECK(read(R"(cmdline = "a\"b\\c\t" # comment)").cmdline == "a\"b\\c\t");
    CHECK(read("cmdline='a' ; vcpus=2").cmdline == "a");
    CHECK(read("vcpus=2\nmaxvcpus=4").vcpus == 4);
    CHECK(text(read("vcpus=2\nmaxvcpus=4").online) == "0-1");
    CHECK(text(read("maxvcpus=4").online) == "0");
    CHECK(read("ramdisk=''").ramdisk == std::nullopt);
    CHECK(read("vga='stdvga'\napic=0").apic); // xl reads both for HVM guests alone
    CHECK(read("disk = [\n 'a', # b\n\n [ 'c', 5, ] ,\n]\npci=[]\nvnuma=[]\npvshim=0").vcpus == 1);
    CHECK(read("extra='a'\nextra+=' b'").cmdline == "a b");
    CHECK(read_xl_config("builder='hvm'\nmemory=64\nvga='none'", "f").type == XenGuestType::hvm);
    const XenGuestConfig hvm =
        read_xl_config(xl("vif=['type=ioemu']\nkernel='/boot/hvmloader'\nmmio_hole=1024\nfirmware='uefi'\napic=0\nvideoram=32", "hvm"), "f");
    CHECK(hvm.emulated_nics);
    CHECK_FALSE(hvm.kernel);
    CHECK(hvm.mmio_hole_kib == 1 << 20);
    CHECK(hvm.firmware == XenFirmware::ovmf);
    CHECK_FALSE(hvm.apic);
    CHECK(hvm.vga == XenVga::cirrus);
    CHECK(hvm.video_kib == 32 * 1024);
    CHECK_FALSE(read_xl_config(xl("vif=['type=vif,bridge=b']", "hvm"), "f").emulated_nics);
}

TEST_CASE("read_xl_config: refusals, with the line") {
    CHECK(refused_xl(xl("vnuma = [ [ 'pnode=0' ] ]")) == "f: line 4: vnuma is set: virtual NUMA changes memory map and ACPI tables");
    CHECK(refused_xl(xl("\npci = [ '00:1f.0' ]")) ==
          "f: line 5: pci is set: passed-through devices can put reserved ranges of the host into the memory map");
    CHECK(refused_xl(xl("pvshim=1")).starts_with("f: line 4: pvshim is set"));
    CHECK(refused_xl(xl("rdm='strategy=host'")).starts_with("f: line 4: rdm is set"));
    CHECK(refused_xl(xl("bootloader='pygrub'")).starts_with("f: line 4: bootloader is set"));
    CHECK(refused_xl(xl("iomem=['f0000,1']")).starts_with("f: line 4: iomem is set"));
    CHECK(refused_xl(xl("gfx_passthru=1")).starts_with("f: line 4: gfx_passthru is set"));
    CHECK(refused_xl(xl("fixed_mem_layout=1")) == "f: line 4: fixed_mem_layout is not known here, so it could change the initial image unseen");
    CHECK(refused_xl(xl("maxmem=256")).find("memory is 128 and maxmem 256, want them equal") != std::string::npos);
    CHECK(refused_xl(xl("memory=64")) == "f: line 4: memory is set a second time, after line 2");
    CHECK(refused_xl(xl("vcpus=010")).find("octal") != std::string::npos);
    CHECK(refused_xl(xl("vcpus='2x'")).find("vcpus is 2x, want a number up to 128") != std::string::npos);
    CHECK(refused_xl(xl("vcpus=2\nmaxvcpus=1")).find("more than maxvcpus") != std::string::npos);
    CHECK(refused_xl(xl("firmware='pvgrub64'")).find("want kernel") != std::string::npos);
    CHECK(refused_xl(xl("cmdline='\\x41'")).find("line 4: a backslash before") != std::string::npos);
    CHECK(refused_xl(xl("cmdline='a\nb'")).find("line 4: a text has no closing quote") != std::string::npos);
    CHECK(refused_xl(xl("cmdline=a")).find("line 4: 'a', want a text in quotes") != std::string::npos);
    CHECK(refused_xl(xl("cmdline='a' 'b'")).find("after the value of cmdline") != std::string::npos);
    CHECK(refused_xl(xl("disk=['a' 'b']")).find("want , or ]") != std::string::npos);
    CHECK(refused_xl(xl("disk=['a'; 'b']")).find("want , or ]") != std::string::npos);
    CHECK(refused_xl(xl("disk=['a'")).find("the file's end in the list from line 4") != std::string::npos);
    CHECK(refused_xl(xl("cmdline=['a']")).find("cmdline is a list, want a text") != std::string::npos);
    CHECK(refused_xl(xl("disk+=5\ndisk+=[]")).find("line 5: disk adds a list to a text") != std::string::npos);
    CHECK(refused_xl(xl("Memory=5")).find("line 4: 'M', want the name of a setting") != std::string::npos);
    CHECK(refused_xl(xl(std::string(20, '['))).find("line 4") != std::string::npos);
    CHECK(refused_xl(xl("disk=" + std::string(20, '['))).find("lists are more than 16 deep") != std::string::npos);
    CHECK(refused_xl("memory=64\nkernel='k'").find("type is absent, which means pv") != std::string::npos);
    CHECK(refused_xl("type='pvh'\nkernel='k'").find("memory is missing") != std::string::npos);
    CHECK(refused_xl("type='pvh'\nmemory=64").find("kernel is missing") != std::string::npos);
    CHECK(refused_xl("type='pv'\nmemory=64").find("type is \"pv\", want pvh or hvm") != std::string::npos);
    CHECK(refused_xl("type='pvh'\nbuilder='hvm'\nmemory=64").find("builder is \"hvm\"") != std::string::npos);
    CHECK(refused_xl(xl("bios='rombios'", "hvm")).find("bios is \"rombios\", want seabios or ovmf") != std::string::npos);
    CHECK(refused_xl(xl("vga='vmware'", "hvm")).find("vga is \"vmware\"") != std::string::npos);
    CHECK(refused_xl(xl("device_model_version='qemu-xen-traditional'", "hvm")).find("want qemu-xen") != std::string::npos);
    CHECK(refused_xl(xl("device_model_stubdomain_override=1", "hvm")).find("stub domain") != std::string::npos);
    CHECK(refused_xl(xl("extra='a'", "hvm")).find("command line is there without a kernel") != std::string::npos);
    CHECK(refused_xl(std::string(xen_config_limit_bytes + 1, '\n')).find("more than the limit") != std::string::npos);
}

TEST_CASE("read_libxl_json: what is read, and what is refused") {
    const auto read = [](std::string_view build) {
        return read_libxl_json(
            fmt::format(R"({{"c_info": {{"type": "hvm"}}, "b_info": {{"max_memkb": 131072{}}}, "nics": [{{"nictype": "vif"}}]}})", build), "f");
    };
    CHECK(read("").vga == XenVga::cirrus);
    CHECK(read("").video_kib == 8 * 1024);
    CHECK(read("").apic);
    CHECK_FALSE(read("").emulated_nics);
    CHECK_FALSE(read(R"(, "apic": "False")").apic);
    CHECK_FALSE(read(R"(, "type.hvm": {"apic": "False"})").apic); // the older place
    CHECK(read(R"(, "type.hvm": {"mmio_hole_memkb": 0})").mmio_hole_kib == std::nullopt);
    CHECK(read(R"(, "max_vcpus": 4, "avail_vcpus": [0, 2])").online == parse_vcpu_set("0,2", "x"));
    CHECK(read(R"(, "extra_hvm": ["-device", "e1000"])").emulated_nics);
    CHECK(refused_json(R"(, "target_memkb": 65536)").find("target_memkb is 65536, and max_memkb 131072, want them equal") != std::string::npos);
    CHECK(refused_json(R"(, "vnuma_nodes": [{}])").find("vnuma_nodes is set") != std::string::npos);
    CHECK(refused_json(R"(, "bootloader": "pygrub")").find("bootloader is set") != std::string::npos);
    CHECK(refused_json(R"(, "iomem": [{"start": 1}])").find("iomem is set") != std::string::npos);
    CHECK(refused_json(R"(, "device_model_stubdomain": "True")").find("device_model_stubdomain is True") != std::string::npos);
    CHECK(refused_json(R"(, "type.pvh": {"pvshim": "True"})").find("pvshim is True") != std::string::npos);
    CHECK(refused_json(R"(, "type.pvh": {"surprise": 1})").find("\"surprise\" is not a key that is known here") != std::string::npos);
    CHECK(refused_json(R"(, "surprise": 1)").find("\"surprise\"") != std::string::npos);
    CHECK(refused_json("", R"(, "pcidevs": [{}])").find("pcidevs is set") != std::string::npos);
    CHECK(refused_json("", R"(, "rdms": [{}])").find("rdms is set") != std::string::npos);
    CHECK(refused_json("", R"(, "surprise": [])").find("\"surprise\"") != std::string::npos);
    CHECK(refused_json("", "", "pv").find("type is \"pv\"") != std::string::npos);
    CHECK(refused_json(R"(, "avail_vcpus": [128])").find("avail_vcpus has 128") != std::string::npos);
    CHECK(refused_json(R"(, "apic": "maybe")").find("want True, False or <default>") != std::string::npos);
    CHECK(refused_json(R"(, "apic": "False")").find("apic is off") != std::string::npos);
    CHECK(refused_json("").empty());
}

TEST_CASE("read_libvirt_xml: what is read, and what is refused, with the line") {
    CHECK(refused_xml(xml("")).empty());
    CHECK(read_libvirt_xml(xml(""), "f").apic); // libvirt leaves it to libxl for PVH
    CHECK_FALSE(read_libvirt_xml("<domain type='xen'><memory>131072</memory><os><type>hvm</type></os></domain>", "f").apic);
    CHECK(read_libvirt_xml("<domain type='xen'><memory unit='b'>134217729</memory><os><type>hvm</type></os></domain>", "f").memory_kib ==
          129 * 1024); // rounded up
    CHECK_FALSE(read_libvirt_xml(xml("", "<cmdline/>"), "f").cmdline);
    CHECK(read_libvirt_xml(xml("", "<cmdline>a &amp; b</cmdline>"), "f").cmdline == "a & b");
    CHECK(read_libvirt_xml(xml("", "", "<interface type='bridge'/>", "hvm"), "f").emulated_nics);
    CHECK_FALSE(read_libvirt_xml(xml("", "", "<interface type='bridge'><model type='netfront'/></interface>", "hvm"), "f").emulated_nics);
    CHECK(
        read_libvirt_xml(xml("", "<loader type='rom'>/usr/lib/xen/boot/hvmloader</loader><acpi><table type='slic'>/t</table></acpi>", "", "hvm"), "f")
            .acpi_firmware == "/t");
    CHECK(refused_xml("<!DOCTYPE a [<!ENTITY b 'c'>]>\n<domain/>") == "f: line 1: a document type declaration, which a domain does not have");
    CHECK(refused_xml(xml("", "<cmdline>&b;</cmdline>")).find("f: line 1: undefined entity") != std::string::npos);
    CHECK(refused_xml(xml("\n<surprise/>")) == "f: line 2: surprise is not known here, so it could change the initial image unseen");
    CHECK(refused_xml(xml("", "<surprise/>")).find("surprise in os is not known") != std::string::npos);
    CHECK(refused_xml(xml("", "", "\n\n<shmem/>")).find("line 3: shmem is a device that is not known") != std::string::npos);
    CHECK(refused_xml(xml("", "", "<hostdev type='pci'/>")).find("hostdev is no USB device") != std::string::npos);
    CHECK(refused_xml(xml("", "", "<interface type='hostdev'/>")).find("passed-through") != std::string::npos);
    CHECK(refused_xml(xml("<currentMemory>1</currentMemory>")).find("want them equal") != std::string::npos);
    CHECK(refused_xml(xml("<cpu><numa/></cpu>")).find("has numa") != std::string::npos);
    CHECK(refused_xml(xml("<maxMemory slots='1'>5</maxMemory>")).find("maxMemory is not known") != std::string::npos);
    CHECK(refused_xml(xml("<launchSecurity type='sev'/>")).find("launchSecurity is not known") != std::string::npos);
    CHECK(refused_xml(xml("<bootloader>pygrub</bootloader>")).find("bootloader is not known") != std::string::npos);
    CHECK(refused_xml(xml("<vcpu current='3'>2</vcpu>")).find("beyond the 2") != std::string::npos);
    CHECK(refused_xml(xml("<vcpu>129</vcpu>")).find("want a number up to 128") != std::string::npos);
    CHECK(refused_xml(xml("<name>a</name><name>b</name>")).find("more than one name") != std::string::npos);
    CHECK(refused_xml(xml("", "<loader type='pflash'>x</loader>")).find("has a loader, and a PVH guest has none") != std::string::npos);
    CHECK(refused_xml(xml("", "<loader>/boot/other</loader>", "", "hvm")).find("which libvirt does not load") != std::string::npos);
    CHECK(refused_xml(xml("", "<loader type='pflash' format='qcow2'>x</loader>", "", "hvm")).find("is not raw") != std::string::npos);
    CHECK(refused_xml(xml("", "", "<video><model type='virtio' vram='1'/></video>", "hvm")).find("type \"virtio\"") != std::string::npos);
    CHECK(refused_xml(xml("", "", "<video><model type='vga'/></video>", "hvm")).find("has no vram") != std::string::npos);
    CHECK(refused_xml(xml("", "", "", "linux")).find("type \"linux\", want hvm or xenpvh") != std::string::npos);
    CHECK(refused_xml("<domain type='kvm'><os/></domain>").find("has type \"kvm\", want xen") != std::string::npos);
    CHECK(refused_xml("<x/>").find("x is the outermost element, want domain") != std::string::npos);
    CHECK(refused_xml("<domain type='xen'>").find("f: line 1: ") != std::string::npos);
}

TEST_CASE("parse_xml: bounds") {
    std::string deep, wide = "<a>";
    for (int i = 0; i < 65; ++i) deep += "<a>";
    for (int i = 0; i < 65; ++i) deep += "</a>";
    for (int i = 0; i < 65536; ++i) wide += "<b/>";
    wide += "</a>";
    CHECK(message_of([&] { return parse_xml(deep, "f", 1 << 20); }) == "f: line 1: elements are more than 64 deep");
    CHECK(message_of([&] { return parse_xml(wide, "f", 1 << 20); }) == "f: line 1: more than 65536 elements");
    CHECK(message_of([&] { return parse_xml("<a/>", "f", 3); }) == "f: 4 bytes, more than the limit of 3");
    CHECK(parse_xml("<a>\n<b c='&lt;'>x<d/>y</b></a>", "f", 100).child("b")->text == "xy");
    CHECK(parse_xml("<a>\n<b c='&lt;'/></a>", "f", 100).child("b")->attribute("c") == "<");
}

TEST_CASE("readers: every truncated length and every flipped bit gives an Error or a configuration") {
    const auto each = [](const std::string& text, auto&& read) {
        std::size_t refused = 0;
        for (std::size_t length = 0; length < text.size(); ++length)
            if (!message_of([&] { return read(std::string_view{text}.substr(0, length), "f"); }).empty()) ++refused;
        CHECK(refused > text.size() / 3);
        for (std::size_t at = 0; at < text.size(); ++at)
            for (unsigned bit = 0; bit < 8; ++bit) {
                std::string flipped = text;
                flipped[at] = static_cast<char>(flipped[at] ^ 1 << bit);
                const std::string message = message_of([&] { return read(flipped, "f"); });
                CHECK(message.find('\n') == std::string::npos);
            }
    };
    for (const char* name : {"guest.cfg", "hvm.cfg"}) each(text_of(name), read_xl_config);
    for (const char* name : {"guest.json", "hvm.json"}) each(text_of(name), read_libxl_json);
    for (const char* name : {"guest.xml", "hvm.xml"}) each(text_of(name), read_libvirt_xml);
}

TEST_CASE("XenVcpuSet as text") {
    for (const char* text : {"0", "0-3", "0,2-3", "0-127", "5,7,9-10"}) CHECK(measure::text(parse_vcpu_set(text, "x")) == text);
    CHECK(measure::text(XenVcpuSet{}) == "none");
    CHECK(measure::text(parse_vcpu_set("3,1,2", "x")) == "1-3");
    for (const char* text : {"", "-", "1-", "3-1", "128", "1,,2", "1 ", "none", "0x1", ",1", "1,"}) CHECK_THROWS_AS(parse_vcpu_set(text, "x"), Error);
}
