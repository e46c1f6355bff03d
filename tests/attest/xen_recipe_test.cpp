// SPDX-License-Identifier: Apache-2.0
// References to Xen guests. Expected digests: tests/fixtures/xen/make.py.
#include "attest/judge.hpp"
#include "attest/reference.hpp"
#include "tests/attest/support.hpp"

namespace {

using namespace sev;
using namespace sev::attest;
using namespace sev::test;

const Path& folder() {
    static const Path path = std::filesystem::absolute(fixture("xen"));
    return path;
}

const json::Value& xen_answers() {
    static const json::Value value = json::parse(read_text(folder() / "answers.json", 1U << 20), "answers.json");
    return value;
}
Digest answer(const char* kind, const char* name) { return unhex<32>(xen_answers().at(kind).at(name).at("digest").get<std::string>()); }

XenRecipe recipe(std::string_view text) {
    const json::Value value = json::parse(text, "recipe");
    return XenRecipe::from_json(json::Object{value, "recipe"});
}
Reference resolved(std::string_view text) { return resolve_reference({.name = "guest", .value = recipe(text)}, folder()); }
std::string refusal(std::string_view text) {
    try {
        resolved(text);
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

constexpr std::string_view by_cfg = R"({"xl_cfg": "guest.cfg", "acpi_reference": "acpi-2-2.json"})";
constexpr std::string_view by_guest = R"({"guest": {"type": "pvh", "memory_mib": 256, "vcpus": 2, "cmdline": "console=hvc0 root=/dev/xvda"},
    "files": {"kernel": "kernel.elf", "ramdisk": "ramdisk.cpio"}, "acpi_reference": "acpi-2-2.json"})";
constexpr std::string_view by_hvm = R"({"xl_cfg": "hvm.cfg", "xen_version": "4.17.7"})";

} // namespace

TEST_CASE("a Xen reference: digest and regions from the owner's own files, however the guest is described") {
    for (const std::string_view text : {by_cfg, std::string_view{R"({"libxl_json": "guest.json", "acpi_reference": "acpi-2-2.json"})"},
                                        std::string_view{R"({"libvirt_xml": "guest.xml", "acpi_reference": "acpi-2-2.json"})"}, by_guest}) {
        CAPTURE(std::string{text});
        const Reference reference = resolved(text);
        CHECK(reference.digest == answer("pvh", "guest.cfg"));
        REQUIRE(reference.regions.size() == 6);
        CHECK(reference.regions[0].label == "kernel");
        CHECK(reference.regions[0].gpa == psp::Gpa{0x1000000});
        CHECK(reference.regions[0].source.ends_with("kernel.elf"));
        CHECK(reference.regions[5].label == "acpi_rsdp");
        REQUIRE(reference.others.size() == 1);
        CHECK(reference.others[0].digest == answer("pvh", "later"));
        REQUIRE(!reference.uncovered.empty());
        CHECK(reference.uncovered.front().starts_with("vcpu-unmeasured: "));
    }
    const Reference later = resolved(R"({"xl_cfg": "guest.cfg", "acpi_reference": "acpi-2-2.json", "build": "later"})");
    CHECK(later.digest == answer("pvh", "later"));
    CHECK(later.others.empty());
    const Reference hvm = resolved(by_hvm);
    CHECK(hvm.digest == answer("hvm", "hvm.cfg"));
    CHECK(hvm.others.empty());
    CHECK(hvm.uncovered.front().starts_with("hvm-runs-unmeasured: "));
    const auto size_unchecked = [](const Reference& one) {
        return std::ranges::any_of(one.uncovered, [](const std::string& text) { return text.starts_with("memory-size-unchecked: "); });
    };
    CHECK_FALSE(size_unchecked(hvm));
    test::TemporaryDirectory with_card;
    write_file(with_card / "card.cfg", as_bytes(read_text(folder() / "hvm.cfg", 1U << 20) + "\nvif=['bridge=xenbr0']\n"), Visibility::readable,
               Existing::refuse);
    for (const char* const name : {"hvmloader.elf", "bios.bin"}) std::filesystem::copy(folder() / name, with_card / name);
    CHECK(size_unchecked(resolve_reference({.name = "card", .value = recipe(R"({"xl_cfg": "card.cfg", "xen_version": "4.17.7"})")}, with_card.path())));
    CHECK(
        resolved(
            R"({"guest": {"type": "hvm", "memory_mib": 512, "vcpus": 2, "bios": "seabios", "vga": "stdvga"}, "files": {"hvmloader": "hvmloader.elf", "firmware": "bios.bin"},
                       "xen_version": "4.17.7"})")
            .digest == hvm.digest);
    // the owner's own copy instead of the host's path
    CHECK(resolved(R"({"xl_cfg": "guest.cfg", "files": {"kernel": "kernel.zst"}, "acpi_reference": "acpi-2-2.json"})").digest ==
          answer("pvh", "guest.cfg"));
    CHECK(resolved(R"({"xl_cfg": "guest.cfg", "files": {"kernel": "kernel32.elf"}, "acpi_reference": "acpi-2-2.json"})").digest !=
          answer("pvh", "guest.cfg"));
}

TEST_CASE("a Xen reference: a guest without ramdisk can be had in the other order") {
    const Reference reference =
        resolved(R"({"guest": {"type": "pvh", "memory_mib": 128, "vcpus": 2}, "files": {"kernel": "kernel.elf"}, "acpi_reference": "acpi-2-2.json",
                                             "page_order": "vates-2025"})");
    CHECK(hex(reference.digest) == xen_answers()["pvh"]["plain"]["digest_vates_2025"].get<std::string>());
    CHECK(reference.regions[2].label == "acpi_rsdp");
    CHECK(refusal(R"({"xl_cfg": "guest.cfg", "acpi_reference": "acpi-2-2.json", "page_order": "vates-2025"})").find("MOD_START_PFN") !=
          std::string::npos);
}

TEST_CASE("a Xen prediction: files that shrink once they were read take nothing with them") {
    test::TemporaryDirectory own;
    for (const char* const name : {"guest.cfg", "acpi-2-2.json", "kernel.elf", "ramdisk.cpio"}) std::filesystem::copy(folder() / name, own / name);
    const XenPrediction predicted = predict(recipe(by_cfg), own.path());
    for (const char* const name : {"kernel.elf", "ramdisk.cpio"}) std::filesystem::resize_file(own / name, 0);
    CHECK(measure::digest(predicted.image, measure::XenOrder::ascending_gfn) == answer("pvh", "guest.cfg"));
}

TEST_CASE("files_of: what a Xen reference is computed from") {
    const std::vector<Path> pvh = files_of({.name = "g", .value = recipe(by_cfg)}, folder());
    CHECK(pvh == std::vector<Path>{folder() / "guest.cfg", folder() / "acpi-2-2.json", folder() / "kernel.elf", folder() / "ramdisk.cpio"});
    const std::vector<Path> hvm = files_of({.name = "g", .value = recipe(by_hvm)}, folder());
    CHECK(hvm == std::vector<Path>{folder() / "hvm.cfg", folder() / "hvmloader.elf", folder() / "bios.bin"});
}

TEST_CASE("a Xen reference: what is written is read, and what is wrong is refused") {
    for (const std::string_view text :
         {by_cfg, by_guest, by_hvm,
          std::string_view{R"({"guest": {"type": "hvm", "memory_mib": 512, "vcpus": 4, "online": "0,2", "apic": false, "bios": "ovmf",
            "vga": "qxl", "video_mib": 256, "mmio_hole_mib": 1024}, "files": {"hvmloader": "l", "firmware": "f", "acpi_firmware": "a", "smbios_firmware": "s"}, "xen_version": "4.18.5"})"},
          std::string_view{R"({"libvirt_xml": "x", "acpi_reference": "a", "page_order": "vates-2025", "build": "later"})"}}) {
        const XenRecipe one = recipe(text);
        const json::Value again = one.to_json();
        CHECK(XenRecipe::from_json(json::Object{again, "again"}) == one);
    }
    const auto malformed = [](std::string_view text, std::string_view says) {
        CHECK_MESSAGE(refusal(text).find(says) != std::string::npos, "got: ", refusal(text), "; want: ", says);
    };
    malformed("{}", "want exactly one of them");
    malformed(R"({"xl_cfg": "a", "libxl_json": "b"})", "want exactly one of them");
    malformed(R"({"xl_cfg": ""})", "xl_cfg is empty, want a path");
    malformed(R"({"xl_cfg": "guest.cfg", "surprise": 1})", "surprise");
    malformed(R"({"xl_cfg": "guest.cfg", "files": {"surprise": "x"}})", "surprise");
    malformed(R"({"xl_cfg": "guest.cfg", "page_order": "mine"})", "page_order is \"mine\", want ascending-gfn or vates-2025");
    malformed(R"({"xl_cfg": "guest.cfg", "build": "second"})", "build is \"second\", want first or later");
    malformed(R"({"xl_cfg": "guest.cfg", "xen_version": "4.17"})", "xen_version is 4.17, want the version of a release");
    malformed(R"({"guest": {"type": "pvh", "memory_mib": 128, "vcpus": 1, "vga": "none"}, "files": {"kernel": "k"}})", "vga");
    malformed(R"({"guest": {"type": "pvh", "memory_mib": 128, "vcpus": 1}})", "kernel is missing");
    malformed(R"({"guest": {"type": "pvh", "memory_mib": 128, "vcpus": 129}, "files": {"kernel": "k"}})", "vcpus");
    malformed(R"({"xl_cfg": "guest.cfg"})", "reference guest: Xen guest: the ACPI reference is missing");
    malformed(R"({"xl_cfg": "guest.cfg", "xen_version": "4.17.7"})",
              "the ACPI reference is missing, want one for 2 vCPUs, online 0-1, of Xen 4.17.7");
    malformed(R"({"xl_cfg": "guest.cfg", "acpi_reference": "acpi-1-1.json"})", "the ACPI reference is for 1 vCPUs");
    malformed(R"({"xl_cfg": "guest.cfg", "acpi_reference": "acpi-2-2.json", "xen_version": "4.18.5"})",
              "of Xen 4.17.7, want 2 vCPUs, online 0-1, of Xen 4.18.5");
    malformed(R"({"xl_cfg": "guest.cfg", "acpi_reference": "guest.json"})", "guest.json");
    malformed(R"({"xl_cfg": "hvm.cfg"})", "the version of Xen is missing");
    malformed(R"({"xl_cfg": "hvm.cfg", "xen_version": "4.17.7", "acpi_reference": "acpi-2-2.json"})", "an ACPI reference is given for an HVM guest");
    malformed(R"({"xl_cfg": "hvm.cfg", "xen_version": "4.17.7", "build": "later"})", "a later build is a PVH guest's");
    malformed(R"({"xl_cfg": "hvm.cfg", "xen_version": "4.17.7", "files": {"smbios_firmware": "smbios.bin"}})",
              "smbios_firmware is given, and the configuration has none");
    malformed(R"({"xl_cfg": "absent.cfg", "xen_version": "4.17.7"})", "absent.cfg");
    malformed(R"({"libvirt_xml": "hvm.xml", "xen_version": "4.17.7"})",
              "hvmloader is not given, and the configuration does not say which file it is");
}

TEST_CASE("judge: a Xen reference is matched, its gaps are told, and a second build in one process is recognised and refused") {
    FixtureLaunch launch;
    launch.policy.references = {{.name = "pvh guest", .value = recipe(by_cfg)}};
    launch.policy.base = folder();
    launch.references = resolve_references(launch.policy);
    launch.bundle.launch.descriptor->kind = GuestKind::xen_pvh;
    launch.bundle.launch.descriptor->regions = launch.references.at(0).regions;
    launch.measure_again();
    const Judgement good = launch.judge();
    CHECK(failed(good.verdict.checks) == "");
    REQUIRE(good.trusted);
    CHECK(good.verdict.reference == "pvh guest");
    const auto has_note = [](const Verdict& verdict, std::string_view text) {
        return std::ranges::any_of(verdict.notes, [&](const std::string& note) { return note.find(text) != std::string::npos; });
    };
    CHECK(has_note(good.verdict, "not covered by the digest: vcpu-unmeasured"));

    // the host's toolstack built another PVH guest before, in the same process
    const auto measure_as = [&](const Digest& digest) {
        const std::vector<Reference> wanted = launch.references;
        launch.references.at(0).digest = digest;
        launch.measure_again();
        launch.references = wanted;
        return launch.judge();
    };
    const Judgement later = measure_as(answer("pvh", "later"));
    CHECK(failed(later.verdict.checks) == "launch.digest");
    CHECK_FALSE(later.trusted);
    CHECK(has_note(later.verdict, "reference \"pvh guest\": the evidence proves launch digest " + hex(answer("pvh", "later")) +
                                      ": the toolstack process had built a PVH guest before"));
    const Judgement other = measure_as(answer("pvh", "plain"));
    CHECK(failed(other.verdict.checks) == "launch.digest");
    CHECK_FALSE(has_note(other.verdict, "toolstack process"));

    // an owner who accepts both says so
    launch.policy.references.push_back(
        {.name = "pvh guest, rebuilt", .value = recipe(R"({"xl_cfg": "guest.cfg", "acpi_reference": "acpi-2-2.json", "build": "later"})")});
    launch.references = resolve_references(launch.policy);
    CHECK(measure_as(answer("pvh", "later")).verdict.reference == "pvh guest, rebuilt");

    // one changed byte of the ramdisk is named by its region
    launch.bundle.launch.descriptor->regions.at(2).sha256[0] ^= 1;
    CHECK(has_note(measure_as(answer("pvh", "plain")).verdict, "region 2 (\"ramdisk\"): sha256"));
}
