// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "base/crypto.hpp"
#include "ovmf-measure/slot.hpp"
#include "ovmf-measure/xen/start_info.hpp"
#include "tests/launch_xen/support.hpp"

using namespace sev;
using namespace sev::launch;
using namespace sev::launch::xen;
using test::FakeHost;
using test::refusal;

namespace {

/// What a PSP that only measures leaves in a slot.
void inject(FakeHost& host, Guest& guest, const GuestSlot& slot, std::string_view content) {
    const auto runs = guest.locate(slot.gpa, slot.length_bytes);
    REQUIRE(runs.size() == 1);
    const auto memory = host.space.at(runs[0].at, runs[0].length_bytes);
    REQUIRE(memory.size() == slot.length_bytes);
    std::ranges::copy(content, memory.begin());
}

} // namespace

TEST_CASE("Xen guest: an honest domain is measured range by range, changed nowhere, and let run once") {
    FakeHost host;
    const auto image = host.prepared();
    {
        const auto guest = host.guest();
        CHECK(guest->parts().size() == image->image().ranges.size());
        const auto descriptor = guest->descriptor();
        const auto predicted = measure::measure(image->image(), measure::XenOrder::ascending_gfn);
        REQUIRE(descriptor.regions.size() == predicted.regions.size());
        Sha256 whole;
        for (std::size_t i = 0; i < predicted.regions.size(); ++i) {
            CHECK(descriptor.regions[i].label == predicted.regions[i].label);
            CHECK(descriptor.regions[i].sha256 == predicted.regions[i].sha256);
            CHECK(guest->parts()[i].length_bytes == predicted.regions[i].length_bytes);
            for (const Run& run : guest->locate(guest->parts()[i].gpa, guest->parts()[i].length_bytes))
                whole.update(host.space.at(run.at, run.length_bytes));
        }
        CHECK(whole.finish() == predicted.digest);
        CHECK(descriptor.kind == attest::GuestKind::xen_pvh);
        CHECK(descriptor.page_order == "ascending-gfn");
        CHECK(descriptor.vcpus == 2);
        guest->recheck();
        CHECK(host.domain->unpaused == 0);
        guest->run();
        CHECK(host.domain->unpaused == 1);
        CHECK(guest->alive());
        CHECK(host.memory->written.empty());
        CHECK(host.memory->mapped == 0);
    }
    CHECK(host.domain->destroyed == 0); // a daemon that stops leaves running guests alone
}

TEST_CASE("Xen guest: each tampering before the capture is named, and the domain destroyed before it has run") {
    struct Case {
        const char* what;
        std::function<void(FakeHost&)> tamper;
        const char* says;
    };
    const std::vector<Case> cases{
        {"kernel", [](FakeHost& host) { host.memory->flip(host.gpa("kernel") + 5); }, "kernel: page 0 (gfn 0x"},
        {"padding after the kernel",
         [](FakeHost& host) {
             const auto range = *host.prepared()->image().find("kernel");
             host.memory->flip(range.gpa() + range.length_bytes() - 1);
         },
         "offset 0xfff: 0x40, want 0x00"},
        {"slot", [](FakeHost& host) { host.memory->flip(host.gpa("ramdisk") + 17); }, "ramdisk: page 0 (gfn 0x"},
        {"ramdisk",
         [](FakeHost& host) {
             host.memory->flip(host.gpa("ramdisk") + 4096 * measure::ramdisk_slot_pages(read_file(*host.config.ramdisk, 1U << 20)));
         },
         "ramdisk: page "},
        {"command line", [](FakeHost& host) { host.memory->put(host.gpa("start_info") + 56, as_bytes("console=hvc1")); },
         "command line is \"console=hvc1 quiet\", want \"console=hvc0 quiet\""},
        {"memory map",
         [](FakeHost& host) {
             auto segment = measure::XenStartInfoView::parse(host.memory->get(host.gpa("start_info"), 4096), host.gpa("start_info"));
             REQUIRE_FALSE(segment.memory.empty());
             host.memory->flip(host.gpa("start_info") + 56 + 24 + 64 + 2048 + 9);
         },
         "memory map entry 0 is 0x0 + 0x10004000 type 1, want 0x0 + 0x10000000 type 1"},
        {"ACPI info", [](FakeHost& host) { host.memory->flip(host.gpa("acpi_info") + 2); }, "acpi_info: page 0 (gfn 0xfc000), offset 0x2"},
        {"ACPI tables", [](FakeHost& host) { host.memory->flip(host.gpa("acpi_tables")); },
         "acpi_tables: page 0 (gfn 0xfc001), offset 0x0: table FACS: "},
        {"RSDP", [](FakeHost& host) { host.memory->flip(host.gpa("acpi_rsdp") + 9); }, "acpi_rsdp: "},
        {"one page more", [](FakeHost& host) { ++host.domain->state.pages; }, "pages of memory, want "},
        {"one page less", [](FakeHost& host) { --host.domain->state.pages; }, "pages of memory, want "},
        {"a vCPU more", [](FakeHost& host) { host.domain->state.vcpus = 3; }, "domain: has 3 vCPUs, want 2"},
        {"another entry", [](FakeHost& host) { host.domain->context[40 + 0x280] ^= 1; }, "vCPU 0: rip is "},
        {"another start_info", [](FakeHost& host) { host.domain->context[40 + 0x20A] ^= 1; }, "vCPU 0: rbx is "},
        {"it has run", [](FakeHost& host) { host.domain->state.has_run = true; }, "domain: has run already"},
        {"it runs", [](FakeHost& host) { host.domain->state.paused = false; }, "domain: is not paused"},
        {"another type", [](FakeHost& host) { host.domain->state.type = "hvm"; }, "domain: is of type hvm, want pvh"},
        {"a page is missing", [](FakeHost& host) { host.memory->missing = host.gpa("ramdisk") / 4096 + 1; }, "is not there"},
    };
    for (const Case& one : cases) {
        CAPTURE(one.what);
        FakeHost host;
        one.tamper(host);
        const std::string said = refusal([&] { host.guest(); });
        CHECK_MESSAGE(said.find(one.says) != std::string::npos, said);
        CHECK(said.find('\n') == std::string::npos);
        CHECK(host.domain->unpaused == 0);
        CHECK(host.domain->destroyed == 1);
        CHECK(host.memory->mapped == 0);
    }
}

TEST_CASE("Xen guest: an HVM domain as hvmloader, firmware and modules make it; each tampering is named, and it is destroyed before it has run") {
    using measure::XenGuestType;
    {
        FakeHost host{XenGuestType::hvm};
        const auto guest = host.guest();
        std::vector<std::string> labels;
        for (const attest::Region& region : guest->descriptor().regions) labels.push_back(region.label);
        CHECK(labels == std::vector<std::string>{"hvm_info", "hvmloader", "firmware", "acpi_module", "smbios_module", "start_info"});
        CHECK(guest->descriptor().kind == attest::GuestKind::xen_hvm);
        guest->run();
        CHECK(host.domain->unpaused == 1);
    }
    struct Case {
        const char* what;
        std::function<void(FakeHost&)> tamper;
        const char* says;
    };
    const auto flip = [](const char* label, std::uint64_t at) { return [=](FakeHost& host) { host.memory->flip(host.gpa(label) + at); }; };
    const std::vector<Case> cases{
        {"number of vCPUs", flip("hvm_info", 0x810), "hvm_info: page 0 (gfn 0x9f), offset 0x810: number of vCPUs: 0x41, want 0x01"},
        {"hvm_info elsewhere", flip("hvm_info", 0x100), "hvm_info: page 0 (gfn 0x9f), offset 0x100"},
        {"hvmloader", flip("hvmloader", 9), "hvmloader: page 0 (gfn 0x100), offset 0x9"},
        {"firmware", flip("firmware", 4096 + 3), "firmware: page 1 "},
        {"ACPI module", flip("acpi_module", 5), "acpi_module: page 0 "},
        {"SMBIOS module", flip("smbios_module", 10), "smbios_module: page 0 "},
        {"padding after the SMBIOS module", flip("smbios_module", 4095), "smbios_module: page 0 "},
        {"memory map", flip("start_info", 56 + 64 + 2048 + 9), "start_info: page 0 "},
        {"xenstore: a byte longer", [](FakeHost& host) { ++host.domain->smbios->length_bytes; },
         "smbios_module: xenstore's hvmloader/smbios says that it lies at "},
        {"xenstore: a byte shorter", [](FakeHost& host) { --host.domain->smbios->length_bytes; }, " + 111 bytes, want at "},
        {"xenstore: elsewhere", [](FakeHost& host) { host.domain->smbios->gpa += 16; }, "xenstore's hvmloader/smbios says that it lies at "},
        {"xenstore: not there", [](FakeHost& host) { host.domain->smbios.reset(); },
         "xenstore's hvmloader/smbios says that it lies nowhere, want at "},
        {"one page more", [](FakeHost& host) { ++host.domain->state.pages; }, "pages of memory, want "},
        {"one page less", [](FakeHost& host) { --host.domain->state.pages; }, "pages of memory, want "},
        {"a vCPU more", [](FakeHost& host) { host.domain->state.vcpus = 2; }, "domain: has 2 vCPUs, want 1"},
        {"another entry", [](FakeHost& host) { host.domain->context[40 + 0x280] ^= 1; }, "vCPU 0: rip is "},
    };
    for (const Case& one : cases) {
        CAPTURE(one.what);
        FakeHost host{XenGuestType::hvm};
        one.tamper(host);
        const std::string said = refusal([&] { host.guest(); });
        CHECK_MESSAGE(said.find(one.says) != std::string::npos, said);
        CHECK(host.domain->unpaused == 0);
        CHECK(host.domain->destroyed == 1);
    }
    FakeHost none{XenGuestType::hvm}; // a module that nobody configured
    none.config.smbios_firmware.reset();
    const auto place = none.domain->smbios;
    none.build();
    const std::string said = refusal([&] { none.guest(); });
    CHECK_MESSAGE(said.find(fmt::format("lies at {:#x} + {} bytes, want nowhere", place->gpa, place->length_bytes)) != std::string::npos, said);
}

TEST_CASE("Xen guest: an HVM guest's file that changes between the prediction and the creation is found") {
    for (const char* const which : {"hvmloader", "firmware", "smbios_module"}) {
        CAPTURE(which);
        FakeHost host{measure::XenGuestType::hvm};
        auto& path = std::string_view{which} == "hvmloader" ? host.config.hvmloader
                     : std::string_view{which} == "firmware" ? host.config.system_firmware
                                                             : host.config.smbios_firmware;
        Bytes content = read_file(*path, 1U << 20);
        const Path copy = host.folder / "changing";
        write_file(copy, content, Visibility::readable, Existing::refuse);
        path = copy.string();
        auto prepared = host.prepared();
        content.back() ^= 0x40; // what the builder reads
        write_file(copy, content, Visibility::readable, Existing::replace);
        const std::uint64_t last = std::string_view{which} == "hvmloader" ? 0 : content.size() - 1;
        host.memory->flip(prepared->image().find(which)->gpa() + last);
        const std::string said = refusal([&] {
            DomainGuest{{.domain = std::make_unique<test::FakeDomain>(host.domain),
                         .prepared = std::move(prepared),
                         .memory = host.memory,
                         .pages = host.space}};
        });
        CHECK_MESSAGE(said.find(fmt::format("domain 7 is not what its configuration says: {}: page ", which)) == 0, said);
        CHECK(host.domain->destroyed == 1);
    }
}

TEST_CASE("Xen guest: files that shrink once they were read take nothing with them") {
    FakeHost host;
    for (auto* const path : {&host.config.kernel, &host.config.ramdisk}) {
        const Path copy = host.folder / Path{**path}.filename().string();
        std::filesystem::copy(**path, copy);
        *path = copy.string();
    }
    const auto guest = host.guest();
    const auto prepared = host.prepared();
    const Digest before = measure::digest(prepared->image(), measure::XenOrder::ascending_gfn);
    for (const auto& path : {*host.config.kernel, *host.config.ramdisk}) std::filesystem::resize_file(path, 0);
    CHECK(measure::digest(prepared->image(), measure::XenOrder::ascending_gfn) == before);
    guest->recheck();
    guest->run();
    CHECK(host.domain->unpaused == 1);
}

TEST_CASE("Xen guest: whatever changes after the measurement is found before it runs") {
    for (const char* const label : {"kernel", "ramdisk", "start_info", "acpi_info", "acpi_tables", "acpi_rsdp"}) {
        FakeHost host;
        const auto guest = host.guest();
        host.memory->flip(host.gpa(label) + 1);
        CHECK(refusal([&] { guest->recheck(); }).find("domain 7 has changed since it was measured: " + std::string{label}) == 0);
        CHECK(refusal([&] { guest->run(); }).find(label) != std::string::npos);
        CHECK(host.domain->unpaused == 0);
        guest->destroy();
        CHECK(host.domain->destroyed == 1);
        CHECK_FALSE(guest->alive());
    }
    FakeHost host;
    const auto guest = host.guest();
    host.domain->context[40 + 0x280] ^= 1;
    CHECK(refusal([&] { guest->run(); }).find("rip") != std::string::npos);
    CHECK(host.domain->unpaused == 0);
}

TEST_CASE("Xen guest: a secret goes into its slot alone, last of all, and the host's copy is wiped") {
    FakeHost host;
    const auto guest = host.guest();
    const std::uint64_t ramdisk = host.gpa("ramdisk");
    const auto slot = guest->slot("initrd");
    REQUIRE(slot);
    CHECK(psp::raw(slot->gpa) == ramdisk);
    CHECK_FALSE(guest->slot("smbios"));
    const std::string secret = "070701 and what an archive holds besides";
    guest->recheck();
    inject(host, *guest, *slot, secret);
    CHECK(host.memory->get(ramdisk, 16) == Bytes(16)); // not in the guest yet
    guest->recheck();
    const auto copy = host.space.at(guest->locate(slot->gpa, slot->length_bytes)[0].at, slot->length_bytes);
    guest->run();
    CHECK(host.domain->unpaused == 1);
    CHECK(as_text(host.memory->get(ramdisk, secret.size())) == secret);
    CHECK(host.memory->get(ramdisk + secret.size(), slot->length_bytes - secret.size()) == Bytes(slot->length_bytes - secret.size()));
    CHECK(host.memory->written == std::vector<std::uint64_t>{ramdisk / 4096});
    (void)copy; // unmapped by now: its pages were wiped and given back
    CHECK_THROWS_AS(guest->locate(slot->gpa, slot->length_bytes), Error);
}

TEST_CASE("Xen guest: a slot that changes once it was written is found before the guest runs, to its last byte and beyond") {
    const std::string secret = "070701 and what an archive holds besides";
    FakeHost host;
    const auto slot = host.guest()->slot("initrd");
    REQUIRE(slot);
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{secret.size()}, slot->length_bytes - 1}) {
        CAPTURE(at);
        FakeHost one;
        const auto guest = one.guest();
        inject(one, *guest, *guest->slot("initrd"), secret);
        guest->recheck();
        one.memory->after_write = [&] { one.memory->flip(psp::raw(slot->gpa) + at); };
        CHECK(refusal([&] { guest->run(); }) ==
              "domain 7 has changed since it was measured: ramdisk: slot initrd does not hold what was written to it");
        CHECK(one.domain->unpaused == 0);
    }
    // the rest of the slot's last page stays as it was measured
    FakeHost hvm{measure::XenGuestType::hvm};
    const auto guest = hvm.guest();
    const auto smbios = guest->slot("smbios");
    REQUIRE(smbios);
    REQUIRE(smbios->length_bytes % 4096 != 0);
    Bytes module = read_file(*hvm.config.smbios_firmware, 1U << 20);
    module[20] = 's';
    inject(hvm, *guest, *smbios, as_text(module));
    hvm.memory->after_write = [&] { hvm.memory->flip(psp::raw(smbios->gpa) + smbios->length_bytes); };
    const std::string said = refusal([&] { guest->run(); });
    CHECK_MESSAGE(said.find(fmt::format("smbios_module: page 0 (gfn {:#x}), offset {:#x}: 0x40, want 0x00", psp::raw(smbios->gpa) / 4096,
                                        smbios->length_bytes)) != std::string::npos,
                  said);
    hvm.memory->after_write = {};
    FakeHost honest{measure::XenGuestType::hvm};
    const auto fine = honest.guest();
    inject(honest, *fine, *fine->slot("smbios"), as_text(module));
    fine->run();
    CHECK(honest.domain->unpaused == 1);
    CHECK(honest.memory->get(psp::raw(smbios->gpa), module.size()) == module);
}

TEST_CASE("Xen guest: what has no wanted value of its own may not change between two looks either") {
    FakeHost host;
    const auto guest = host.guest();
    guest->recheck();
    host.domain->context[40 + 0x408 + 8 + 12] ^= 1; // the first APIC's timer divisor
    CHECK(refusal([&] { guest->run(); }) == "domain 7 has changed since it was measured: vCPU 0: its LAPIC record has changed, first at offset 0xc");
    CHECK(host.domain->unpaused == 0);
}

TEST_CASE("Xen guest: ciphertext that a PSP leaves in a slot is not given to a guest without encryption") {
    FakeHost host;
    const auto guest = host.guest();
    const auto slot = guest->slot("initrd");
    inject(host, *guest, *slot, "\x9C\x11\x42 ciphertext");
    CHECK(refusal([&] { guest->run(); }) == "slot initrd: the PSP left it encrypted, and this guest's memory is not");
    CHECK(host.domain->unpaused == 0);
    CHECK(host.memory->written.empty());
}

TEST_CASE("Xen guest: bytes that the builder leaves undefined are zeroed, and no others") {
    FakeHost host;
    const std::uint64_t rsdp = host.gpa("acpi_rsdp");
    host.memory->put(rsdp + 64, as_bytes("left over from another domain"));
    const auto guest = host.guest();
    CHECK(host.memory->get(rsdp + 64, 4096 - 64) == Bytes(4096 - 64));
    CHECK(host.memory->written == std::vector<std::uint64_t>{rsdp / 4096});
    guest->recheck();
}

TEST_CASE("Xen guest: the tables of a process that built PVH guests before are known for what they are") {
    FakeHost host;
    const auto first = host.prepared(); // what `later` points into
    const auto later = first->image().later_build();
    REQUIRE(later);
    std::uint64_t at = host.gpa("acpi_tables");
    later->find("acpi_tables")->visit([&](ByteView piece) {
        host.memory->put(at, piece);
        at += piece.size();
    });
    const auto guest = host.guest();
    CHECK(guest->descriptor().toolstack_version == "process that has built PVH guests before");
    Sha256 whole;
    for (const GuestPart& part : guest->parts())
        for (const Run& run : guest->locate(part.gpa, part.length_bytes)) whole.update(host.space.at(run.at, run.length_bytes));
    CHECK(whole.finish() == measure::digest(*later, measure::XenOrder::ascending_gfn));
}

TEST_CASE("Xen guest: no reference of these vCPUs, two that differ, a relative path: refused with a remedy") {
    FakeHost host;
    host.config.vcpus = 3;
    host.config.online = measure::first_vcpus(3);
    CHECK(refusal([&] { host.prepared(); }).find("is of Xen 4.17.7, 3 vCPUs, online 0-2") != std::string::npos);
    FakeHost two;
    json::Value other = json::parse(read_text(test::fixture("xen/acpi-2-2.json"), 1U << 20), "acpi");
    other["libxenlight"] = "4.17.7+other";
    write_file(two.folder / "xen-acpi-other.json", as_bytes(other.dump()), Visibility::readable, Existing::refuse);
    const std::string said = refusal([&] { two.prepared(); });
    CHECK_MESSAGE(said.find("two are of Xen 4.17.7, 2 vCPUs, online 0-1, and differ") != std::string::npos, said);
    FakeHost relative;
    relative.config.kernel = "kernel.elf";
    CHECK(refusal([&] { relative.prepared(); }) == "kernel is kernel.elf, want an absolute path");
}

TEST_CASE("ACPI reference: taken from a paused PVH guest without a prediction") {
    FakeHost host;
    host.domain->config =
        R"({"c_info": {"type": "pvh", "name": "a"}, "b_info": {"max_vcpus": 2, "avail_vcpus": [0, 1],
"max_memkb": 262144, "target_memkb": 262144, "kernel": "/k", "type.pvh": {}}})";
    test::FakeDomain domain{host.domain};
    const json::Value known = json::parse(read_text(test::fixture("xen/acpi-2-2.json"), 1U << 20), "acpi");
    const auto want = measure::AcpiReference::from_json(known, "acpi");
    CHECK(capture_acpi(domain, *host.memory, want.libxenlight) == want);
    host.domain->state.has_run = true;
    CHECK(refusal([&] { capture_acpi(domain, *host.memory, want.libxenlight); }) == "domain 7: has run, want one that was created paused");
    host.domain->state.has_run = false;
    host.memory->flip(host.gpa("acpi_tables") + 100);
    CHECK_FALSE(refusal([&] { capture_acpi(domain, *host.memory, want.libxenlight); }).empty());
    host.domain->state.type = "hvm";
    CHECK(refusal([&] { capture_acpi(domain, *host.memory, want.libxenlight); }).find("want pvh") != std::string::npos);
}
