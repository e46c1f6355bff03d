// SPDX-License-Identifier: Apache-2.0
// Kernels and ACPI references: every truncated length, every flipped bit, and what must be refused by name.
#include <algorithm>

#include "ovmf-measure/xen/acpi_reference.hpp"
#include "ovmf-measure/xen/kernel.hpp"
#include "ovmf-measure/xen/unpack.hpp"
#include "base/crypto.hpp"
#include "tests/measure/support.hpp"

namespace {

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

constexpr std::size_t small = 1U << 20;

Bytes content(std::string_view name) { return read_file(fixture("xen") / name, small); }
void put32(Bytes& out, std::size_t at, std::uint32_t value) {
    for (unsigned i = 0; i < 4; ++i) out.at(at + i) = static_cast<std::uint8_t>(value >> 8 * i);
}
void put64(Bytes& out, std::size_t at, std::uint64_t value) {
    put32(out, at, static_cast<std::uint32_t>(value));
    put32(out, at + 4, static_cast<std::uint32_t>(value >> 32));
}
std::string refusal(const Bytes& file) {
    return message_of([&] { return XenElf::parse(file, "k"); });
}

constexpr std::size_t first_load = 64, second_load = 64 + 56, note_segment = 64 + 112; // program headers of kernel.elf

} // namespace

TEST_CASE("XenElf: the fixtures' kernels") {
    const XenElf elf = XenElf::parse(content("kernel.elf"), "kernel.elf");
    CHECK(elf.is_64);
    CHECK(elf.start == 0x1000000);
    CHECK(elf.end == 0x1005345);
    CHECK(elf.segments == std::vector<XenElfSegment>{{0x1000000, 232, 5000, 0x2000}, {0x1003000, 5232, 777, 0x2345}});
    CHECK(elf.notes == XenNotes{.count = 5, .phys32_entry = 0x1000040, .mod_start_pfn = true, .guest_os = "linux", .supported_features = 0x8801});
    CHECK(elf.notes.rsdp_unrestricted());
    const XenElf old = XenElf::parse(content("kernel32.elf"), "kernel32.elf");
    CHECK_FALSE(old.is_64);
    CHECK(old.notes == XenNotes{.count = 2, .phys32_entry = 0x100010, .guest_os = "linux"}); // found through the section header
    CHECK_FALSE(old.notes.rsdp_unrestricted());
    CHECK(XenElf::parse(content("hvmloader.elf"), "x").notes.count == 0);
}

TEST_CASE("XenElf: refusals name the offset") {
    const Bytes good = content("kernel.elf");
    const auto with = [&](std::size_t at, std::uint64_t value) {
        Bytes out = good;
        put64(out, at, value);
        return refusal(out);
    };
    CHECK(with(first_load + 0x18, 0x1000001) == "k: 40h the lowest p_paddr is 0x1000001, want a multiple of 0x1000: Xen refuses others");
    CHECK(with(second_load + 0x18, 0x1001000) == "k: 40h the segment at address 0x1001000 overlaps the one before it");
    CHECK(with(second_load + 0x20, 100000) == "k: 78h segment of 100000 bytes at 1470h is not inside the file's 6124 bytes");
    CHECK(with(second_load + 0x28, 5) == "k: 78h p_filesz is 777, more than p_memsz 5");
    CHECK(with(second_load + 0x18, 0xFFFFFFFF) == "k: 78h segment of 0x2345 bytes at address 0xffffffff, want it to end below 4 GiB");
    CHECK(with(note_segment + 0x08, 1 << 20).starts_with("k: b0h note segment of"));
    CHECK(with(0x20, 1 << 20).starts_with("k: 20h program header table of 3 entries of 56 bytes at 100000h is not inside the file's"));
    Bytes out = good;
    out[0] = 0;
    CHECK(refusal(out) == "k: 0h is no ELF magic");
    out = good;
    out[5] = 2;
    CHECK(refusal(out) == "k: 5h EI_DATA is 2, want 1 (little-endian)");
    out = good;
    out[0x12] = 40;
    CHECK(refusal(out) == "k: 12h e_machine is 40, want 3 (i386) or 62 (x86-64)");
    out = good;
    put32(out, first_load + 4, 0); // no rights: passed over
    CHECK(XenElf::parse(out, "k").start == 0x1003000);
    put32(out, second_load + 4, 0);
    CHECK(refusal(out) == "k: 40h no loadable segment among the program headers");
}

TEST_CASE("check_pvh_kernel: notes that no prediction covers") {
    const XenRules rules = xen_rules({4, 17, 7}, XenGuestType::pvh);
    const XenElf good = XenElf::parse(content("kernel.elf"), "k");
    const auto refused = [&](auto&& change, XenVersion version = {4, 17, 7}) {
        XenElf elf = good;
        change(elf.notes);
        return message_of([&] {
            check_pvh_kernel(elf, xen_rules(version, XenGuestType::pvh), "k");
            return 0;
        });
    };
    check_pvh_kernel(good, rules, "k");
    CHECK(refused([](XenNotes& n) { n.phys32_entry.reset(); }) == "k: no note PHYS32_ENTRY among its Xen notes, so it cannot start as PVH guest");
    CHECK(refused([](XenNotes& n) { n.phys32_entry = 0x2000000; }) ==
          "k: note PHYS32_ENTRY is 0x2000000, outside the image from 0x1000000 to 0x1005345");
    CHECK(refused([](XenNotes& n) { n.bsd_symtab = true; }).find("BSD_SYMTAB") != std::string::npos);
    CHECK(refused([](XenNotes& n) { n.paddr_offset = true; }).find("PADDR_OFFSET without VIRT_BASE") != std::string::npos);
    CHECK(refused([](XenNotes& n) { n.paddr_offset = true; }, {4, 18, 5}).empty());
    CHECK(refused([](XenNotes& n) { n.paddr_offset = n.virt_base = true; }).empty());
}

TEST_CASE("XenElf and unpack_kernel: every truncated length gives an Error or the same image") {
    const Bytes elf = content("kernel.elf");
    const XenElf whole = XenElf::parse(elf, "k");
    for (std::size_t length = 0; length < elf.size(); ++length) {
        const ByteView cut = ByteView{elf}.first(length);
        bool same = false;
        const std::string message = message_of([&] { return same = XenElf::parse(cut, "k") == whole; });
        CHECK(message.empty() == same);
        CHECK((!message.empty() || length >= elf.size() - 3)); // the last note's padding may be missing
    }
    for (const char* name : {"kernel.elf.gz", "kernel.gzip", "kernel.xz", "kernel.lzma", "kernel.lz4", "kernel.zst"}) {
        CAPTURE(name);
        const Bytes packed = content(name);
        std::size_t unpacked = 0;
        for (std::size_t length = 0; length < packed.size(); ++length)
            if (message_of([&] { return unpack_kernel(ByteView{packed}.first(length), "k", 256, small).bytes.size(); }).empty()) ++unpacked;
        CHECK(unpacked <= 7); // only what stands behind a bzImage's payload may be missing
    }
}

TEST_CASE("XenElf and unpack_kernel: every flipped bit gives an Error or an image, and nothing else") {
    const Bytes elf = content("kernel.elf");
    std::size_t changed = 0;
    const XenElf whole = XenElf::parse(elf, "k");
    const std::size_t notes = elf.size() - 116;
    for (std::size_t at = 0; at < elf.size(); at = at == 231 ? notes : at + 1)
        for (unsigned bit = 0; bit < 8; ++bit) {
            Bytes flipped = elf;
            flipped[at] = static_cast<std::uint8_t>(flipped[at] ^ 1U << bit);
            if (!message_of([&] { return XenElf::parse(flipped, "k") == whole; }).empty() || XenElf::parse(flipped, "k") != whole) ++changed;
        }
    CHECK(changed > 500);
    for (const char* name : {"kernel.elf.gz", "kernel.gzip", "kernel.xz", "kernel.lzma", "kernel.lz4", "kernel.zst"}) {
        CAPTURE(name);
        const Bytes packed = content(name);
        const std::size_t from = std::string_view{name}.ends_with(".elf.gz") ? 0 : 0x1F0;
        for (std::size_t at = from; at < packed.size(); ++at) {
            Bytes flipped = packed;
            flipped[at] = static_cast<std::uint8_t>(flipped[at] ^ 1U << at % 8);
            message_of([&] { return unpack_kernel(flipped, "k", 256, small).bytes.size(); });
        }
    }
}

TEST_CASE("unpack_kernel: output is bounded, and as long as the payload says") {
    const Bytes packed = content("kernel.zst");
    CHECK(unpack_kernel(packed, "k").bytes.size() == content("kernel.elf").size());
    CHECK(message_of([&] { return unpack_kernel(packed, "k", 256, 6000).bytes; }) ==
          "k: payload at 420h: its last four bytes say that it unpacks to 6124 bytes, want at most 6000");
    for (const char* name : {"kernel.gzip", "kernel.xz", "kernel.lzma", "kernel.lz4", "kernel.zst"})
        for (const std::uint32_t claim : {0U, 6123U, 6125U + 16U, 6200U}) {
            CAPTURE(name);
            CAPTURE(claim);
            Bytes wrong = content(name);
            put32(wrong, wrong.size() - 11, claim); // 7 bytes of trailer follow the payload
            const std::string message = message_of([&] { return unpack_kernel(wrong, "k", 256, small).bytes; });
            // of xz and lzma Xen takes as many bytes as are claimed, though more would come
            const bool is_cut = (std::string_view{name} == "kernel.xz" || std::string_view{name} == "kernel.lzma") && claim < 6124;
            CHECK(message.empty() == is_cut);
        }
    CHECK(message_of([] { return unpack_kernel({}, "k").bytes; }) == "k: 0 bytes, want a kernel");
    Bytes old = content("kernel.xz");
    old[0x206] = 0x07;
    old[0x207] = 0x02;
    CHECK(message_of([&] { return unpack_kernel(old, "k").bytes; }) == "k: 206h boot protocol is 0207, want 0208 or later");
    Bytes both = content("kernel.elf");
    std::ranges::copy(std::string_view{"HdrS"}, both.begin() + 0x202);
    CHECK(message_of([&] { return unpack_kernel(both, "k").bytes; }) == "k: 202h is HdrS in an ELF file: it could be taken for a bzImage");
    // xz within the 128 MiB that Xen 4.17 gives, but not within 1
    CHECK(message_of([] { return unpack_kernel(content("kernel.xz"), "k", 1).bytes; }).find("needs more memory") != std::string::npos);
}

TEST_CASE("gunzip_size: the sizes Xen takes from a file's end") {
    CHECK_FALSE(gunzip_size(Bytes{0x1F, 0x8B, 0, 0, 0}));
    CHECK(gunzip_size(Bytes{0x1F, 0x8B, 0, 0, 0, 0}) == 16);
    CHECK(gunzip_size(Bytes{0x1F, 0x8B, 0, 0, 0, 0x40}) == (1U << 30) + 16);
    CHECK_FALSE(gunzip_size(Bytes{0x1F, 0x8B, 1, 0, 0, 0x40}));
    CHECK_FALSE(gunzip_size(Bytes{0x1F, 0x8C, 0, 0, 0, 0}));
}

TEST_CASE("AcpiReference: known pages, round trip, both builds") {
    const json::Value answers = json::parse(as_text(content("answers.json")), "answers.json");
    for (const auto& [key, want] : answers.at("acpi").items()) {
        const auto& name = key; // Clang 14 does not capture a structured binding
        CAPTURE(name);
        const std::string text{as_text(content("acpi-" + name + ".json"))};
        const AcpiReference reference = AcpiReference::from_json(json::parse(text, name), name);
        CHECK(hex(sha256(reference.info)) == want.at("info").get<std::string>());
        CHECK(hex(sha256(reference.tables)) == want.at("tables").get<std::string>());
        CHECK(hex(sha256(reference.tables_of(XenBuild::later))) == want.at("later").get<std::string>());
        CHECK(hex(sha256(reference.rsdp)) == want.at("rsdp").get<std::string>());
        CHECK(json::pretty(reference.to_json()) == text);
        CHECK(build_of_tables(reference.tables) == XenBuild::first);
        const Bytes later = reference.tables_of(XenBuild::later);
        CHECK(build_of_tables(later) == XenBuild::later);
        CHECK(AcpiReference::from_pages(reference.libxenlight, reference.vcpus, reference.online, reference.info, later, reference.rsdp) ==
              reference);
        std::size_t differing = 0;
        for (std::size_t i = 0; i < later.size(); ++i)
            if (later[i] != reference.tables[i]) {
                ++differing;
                CHECK(acpi_table_at(later, i) == "FADT 1");
            }
        CHECK(differing == 5);
        CHECK(acpi_table_at(later, 0) == "FACS");
        CHECK(acpi_table_at(later, later.size() - 1).empty());
    }
    CHECK(AcpiReference::from_json(json::parse(as_text(content("acpi-4-2.json")), "x"), "x").file_name() == "xen-acpi-4.17.7+made-4-0-1.json");
}

TEST_CASE("AcpiReference: every flipped bit that a checksum or pointer covers is refused; other vCPUs are refused") {
    const AcpiReference good = AcpiReference::from_json(json::parse(as_text(content("acpi-2-2.json")), "x"), "x");
    const auto refused = [&](auto&& change) {
        AcpiReference bad = good;
        change(bad);
        return !message_of([&] {
            bad.check();
            return 0;
        }).empty();
    };
    std::size_t unseen = 0;
    for (std::size_t at = 64; at < good.tables.size(); ++at) { // the FACS has no checksum
        const bool inside = !acpi_table_at(good.tables, at).empty();
        for (unsigned bit = 0; bit < 8; bit += 7) {
            const bool caught = refused([&](AcpiReference& r) { r.tables[at] = static_cast<std::uint8_t>(r.tables[at] ^ 1U << bit); });
            if (inside) CHECK(caught);
            else unseen += caught ? 0 : 1;
        }
    }
    CHECK(unseen > 0); // padding between tables, which nothing checks and the digest covers
    for (std::size_t at = 0; at < 64; ++at)
        for (unsigned bit = 0; bit < 8; ++bit)
            CHECK(refused([&](AcpiReference& r) { r.rsdp[at] = static_cast<std::uint8_t>(r.rsdp[at] ^ 1U << bit); }));
    CHECK(refused([](AcpiReference& r) { r.vcpus = 1; }));
    CHECK(refused([](AcpiReference& r) { r.vcpus = 3; }));
    CHECK(refused([](AcpiReference& r) { r.online.reset(1); }));
    CHECK(refused([](AcpiReference& r) { r.online.reset(0); }));
    CHECK(refused([](AcpiReference& r) { r.info[2] = 3; }));
    CHECK(refused([](AcpiReference& r) { r.info.pop_back(); }));
    CHECK(refused([](AcpiReference& r) { r.rsdp.pop_back(); }));
    CHECK(refused([](AcpiReference& r) { r.tables = r.tables_of(XenBuild::later); }));
    for (std::size_t length = 0; length < good.tables.size(); length += 97) CHECK(refused([&](AcpiReference& r) { r.tables.resize(length); }));
}
