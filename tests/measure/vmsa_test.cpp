// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/vmsa.hpp"

#include <set>

#include "base/crypto.hpp"
#include "tests/measure/support.hpp"

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

namespace {

CpuSignature signature_of(const json::Value& value) {
    return CpuSignature::of(value.at("family").get<unsigned>(), value.at("model").get<unsigned>(), value.at("stepping").get<unsigned>());
}

} // namespace

TEST_CASE("VMSA layout: fields stand where the APM has them, without overlap") {
    // AMD64 APM volume 2 table B-4, a sample of every part.
    for (const auto& [field, offset, size] : std::vector<std::tuple<const char*, std::size_t, std::size_t>>{
             {"es.selector", 0x000, 2}, {"cs.base", 0x018, 8}, {"tr.limit", 0x094, 4}, {"vmpl", 0x0CA, 1}, {"cpl", 0x0CB, 1}, {"efer", 0x0D0, 8},
             {"xss", 0x140, 8}, {"cr0", 0x158, 8}, {"rip", 0x178, 8}, {"rsp", 0x1D8, 8}, {"rax", 0x1F8, 8}, {"cr2", 0x240, 8}, {"g_pat", 0x268, 8},
             {"pkru", 0x2E8, 4}, {"rcx", 0x308, 8}, {"rdx", 0x310, 8}, {"rbp", 0x328, 8}, {"r15", 0x378, 8}, {"sev_features", 0x3B0, 8},
             {"xcr0", 0x3E8, 8}, {"mxcsr", 0x408, 4}, {"x87_fcw", 0x410, 2}, {"fpreg_x87", 0x420, 80}, {"fpreg_ymm", 0x570, 256}}) {
        const char* const name = field; // Clang 14 does not capture a structured binding
        CHECK_MESSAGE(vmsa_field(name).offset == offset, name);
        CHECK_MESSAGE(vmsa_field(name).size_bytes == size, name);
    }
    for (const auto fields : {vmsa_fields(), vmsa_sevctl_fields()}) {
        std::set<std::string_view> names;
        std::size_t end = 0;
        for (const VmsaField& field : fields) {
            CHECK(names.insert(field.name).second);
            CHECK(field.offset >= end);
            end = field.offset + field.size_bytes;
        }
        CHECK(end <= 4096);
    }
    CHECK(vmsa_sevctl_fields().back().name == "x87_state_gpa");
    CHECK_THROWS_WITH_AS(static_cast<void>(vmsa_field("eip")), "VMSA: no field is called 'eip'", Error);
}

TEST_CASE("VMSA: the older names lie where the same register lies today") {
    std::size_t shared = 0;
    for (const VmsaField& old : vmsa_sevctl_fields()) {
        for (const VmsaField& field : vmsa_fields()) {
            if (old.name != field.name) continue;
            CHECK_MESSAGE(old.offset == field.offset, old.name);
            CHECK_MESSAGE(old.size_bytes == field.size_bytes, old.name);
            ++shared;
        }
    }
    CHECK(shared > 80);
    std::size_t end = 0; // the older layout has no gaps
    for (const VmsaField& old : vmsa_sevctl_fields()) {
        CHECK(old.offset == end);
        end += old.size_bytes;
    }
}

TEST_CASE("VMSA: get and set") {
    Vmsa page{};
    set(page, "cs.base", 0xFFFF0000);
    CHECK(get(page, "cs.base") == 0xFFFF0000);
    CHECK(hex(ByteView{page}.subspan(0x18, 8)) == "0000ffff00000000");
    CHECK_THROWS_WITH_AS(set(page, "cs.attrib", 0x10000), "VMSA: cs.attrib is 0x10000, want a number of 2 bytes", Error);
    CHECK_THROWS_WITH_AS(set(page, "fpreg_x87", 1), "VMSA: fpreg_x87 is an array of 80 bytes, want a field that is a number", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(get(page, "no\nfield")), "VMSA: no field is called 'no\\x0afield'", Error);
}

TEST_CASE("VMSA: a page has 4096 bytes") {
    for (const std::size_t size : {0U, 1U, 4095U, 4097U, 8192U}) {
        CHECK(message_of([&] { return parse_vmsa(Bytes(size), "vmsa0.bin"); }) == fmt::format("vmsa0.bin: {} bytes, want 4096", size));
    }
    CHECK(parse_vmsa(Bytes(4096), "vmsa0.bin") == Vmsa{});
}

TEST_CASE("VMSA: describe shows every field, and stray bytes are found") {
    Vmsa page{};
    for (std::size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::uint8_t>(i * 7 + 1);
    Vmsa rebuilt{};
    for (const VmsaValue& value : describe(page)) std::ranges::copy(value.bytes, rebuilt.begin() + static_cast<std::ptrdiff_t>(value.field.offset));
    CHECK(rebuilt != page);
    for (const StrayByte& stray : stray_bytes(page)) rebuilt[stray.offset] = stray.value;
    CHECK(rebuilt == page); // together they are the whole page

    Vmsa small{};
    set(small, "rip", 0xFFF0);
    small[0x6A0] = 0x5A;
    CHECK(stray_bytes(small) == std::vector<StrayByte>{{.offset = 0x6A0, .value = 0x5A}});
    const auto values = describe(small);
    const auto rip = std::ranges::find(values, "rip", [](const VmsaValue& v) { return v.field.name; });
    REQUIRE(rip != values.end());
    CHECK(rip->number == 0xFFF0);
    CHECK(rip->text == "0xfff0");
    CHECK(hex(rip->bytes) == "f0ff000000000000");
    CHECK(values.back().field.name == "fpreg_ymm");
    CHECK(values.back().text == std::string(512, '0'));
    CHECK(describe(small, vmsa_sevctl_fields()).front().field.name == "es.selector");
}

TEST_CASE("VMSA: diff names each field and each stray byte, and nothing else") {
    const Vmsa left = build_vmsa(vmsa_profile("kvm-legacy"), 0, {.signature = {0x00800F12}, .sev_features = 0, .ap_reset_address = {}});
    const Vmsa right = build_vmsa(vmsa_profile("kvm-init2"), 0, {.signature = {0x00800F12}, .sev_features = 0, .ap_reset_address = {}});
    CHECK(diff(left, left).empty());
    CHECK(diff(left, right) == std::vector<VmsaDifference>{{"mxcsr", "0x0", "0x1f80"}, {"x87_fcw", "0x0", "0x37f"}});
    for (std::size_t at = 0; at < left.size(); ++at) { // every byte belongs to exactly one name
        Vmsa other = left;
        other[at] ^= 0x80;
        const auto differences = diff(left, other);
        REQUIRE(differences.size() == 1);
        const bool stray = !stray_bytes(other).empty();
        CHECK(differences[0].field.starts_with("byte 0x") == stray);
        CHECK(differences[0].left != differences[0].right);
        if (stray) CHECK(differences[0] == VmsaDifference{fmt::format("byte {:#x}", at), "0x0", "0x80"});
    }
}

TEST_CASE("VMSA profiles: pages equal those of an independent script") {
    for (const auto& want : answers().at("vmsas")) {
        const VmsaInput input{.signature = {want.at("signature").get<std::uint32_t>()},
                              .sev_features = want.at("sev_features").get<std::uint64_t>(),
                              .ap_reset_address = want.at("reset").get<std::uint32_t>()};
        const std::string profile = want.at("profile").get<std::string>();
        const bool boot = want.at("boot").get<bool>();
        const Vmsa page = build_vmsa(vmsa_profile(profile), boot ? 0 : 1, input);
        CHECK_MESSAGE(hex(sha256(page)) == want.at("sha256").get<std::string>(), profile, " boot ", boot);
        CHECK(stray_bytes(page).empty());
        if (!boot) CHECK(build_vmsa(vmsa_profile(profile), 4095, input) == page);
    }
}

TEST_CASE("VMSA profiles: vectors of sevctl and sev-snp-measure") {
    const auto vectors = vector_json("vmsa/vmsa.json");
    if (!vectors) return;
    for (const auto& want : vectors->at("cases")) {
        const Bytes file = read_file(*vector_file("vmsa/" + want.at("file").get<std::string>()), 4096);
        const bool fpu = want.at("kvm_init").get<std::string>().starts_with("KVM_SEV_INIT2");
        const bool boot = want.at("cpu").get<std::string>() == "BSP";
        const CpuSignature signature = want.contains("family") ? signature_of(want) : CpuSignature::of_qemu_model("EPYC-v4");
        const Vmsa page = build_vmsa(vmsa_profile(fpu ? "kvm-init2" : "kvm-legacy"), boot ? 0 : 1,
                                     {.signature = signature, .sev_features = 0, .ap_reset_address = 0x0080B004});
        CHECK(diff(page, parse_vmsa(file, "vector")).empty());
        CHECK(hex(sha256(page)) == want.at("sha256").get<std::string>());
    }
    for (const auto& want : vectors->at("cpu_sig")) {
        CHECK(signature_of(want).value == std::stoul(want.at("sig").get<std::string>(), nullptr, 16));
    }
}

TEST_CASE("VMSA profiles: the table is complete and says where it comes from") {
    std::set<std::string> names;
    for (const VmsaProfile& profile : vmsa_profiles()) {
        names.emplace(profile.name);
        CHECK(profile.version >= 1);
        CHECK(!profile.title.empty());
        CHECK(!profile.source.empty());
        CHECK(!profile.unverified.empty());
        for (const auto rules : {profile.common, profile.own}) {
            for (const VmsaRule& rule : rules) CHECK_NOTHROW(static_cast<void>(vmsa_field(rule.field)));
        }
        CHECK(&vmsa_profile(profile.name) == &profile);
        CHECK(&vmsa_profile(fmt::format("{}@{}", profile.name, profile.version)) == &profile);

        // What the profile says it uses is what changes its pages.
        const auto page = [&](unsigned cpu, std::uint32_t signature, std::uint32_t reset) {
            return build_vmsa(profile, cpu, {.signature = {signature}, .sev_features = 0, .ap_reset_address = reset});
        };
        CHECK(profile.uses_signature() == (page(0, 1, 1) != page(0, 2, 1)));
        CHECK(profile.uses_reset_address() == (page(1, 1, 1) != page(1, 1, 2)));
        CHECK(page(0, 1, 1) == page(0, 1, 2));
    }
    CHECK(names == std::set<std::string>{"kvm-legacy", "kvm-init2", "ec2", "gce", "krun"});
    CHECK_THROWS_WITH_AS(static_cast<void>(vmsa_profile("kvm")),
                         "VMSA profile is 'kvm', want one of kvm-legacy@1, kvm-init2@1, ec2@1, gce@1, krun@1", Error);
    CHECK_THROWS_AS(static_cast<void>(vmsa_profile("kvm-legacy@2")), Error);
    CHECK_THROWS_AS(static_cast<void>(vmsa_profile("")), Error);
}

TEST_CASE("VMSA: an AP without a reset address is refused") {
    const VmsaProfile& profile = vmsa_profile("kvm-legacy");
    CHECK_THROWS_WITH_AS(static_cast<void>(build_vmsa(profile, 3, {.signature = {}, .sev_features = 0, .ap_reset_address = {}})),
                         "VMSA of vCPU 3 (kvm-legacy): AP reset address is missing, want the one of the firmware's SEV-ES reset block", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(build_vmsa(profile, 1, {.signature = {}, .sev_features = 0, .ap_reset_address = 0})),
                         "VMSA of vCPU 1 (kvm-legacy): AP reset address is 0, want the one of the firmware's SEV-ES reset block", Error);
    CHECK_NOTHROW(static_cast<void>(build_vmsa(profile, 0, {})));
    CHECK_NOTHROW(static_cast<void>(build_vmsa(vmsa_profile("krun"), 1, {})));
}

TEST_CASE("CPU signature: known answers, and back") {
    for (const auto& want : answers().at("signatures")) {
        const auto family = want[0].get<unsigned>(), model = want[1].get<unsigned>(), stepping = want[2].get<unsigned>();
        const CpuSignature signature = CpuSignature::of(family, model, stepping);
        CHECK(signature.value == want[3].get<std::uint32_t>());
        CHECK(signature.family() == family);
        CHECK(signature.model() == model);
        CHECK(signature.stepping() == stepping);
    }
    CHECK(CpuSignature::of_qemu_model("EPYC-Rome").text() == "0x00830f10: family 23, model 49, stepping 0");
    // Table of QEMU's models in the AMD documents' form.
    const std::vector<std::pair<const char*, std::uint32_t>> known{
        {"EPYC", 0x00800F12}, {"EPYC-IBPB", 0x00800F12}, {"EPYC-Milan-v2", 0x00A00F11}, {"EPYC-Genoa", 0x00A10F10}, {"EPYC-Turin", 0x00B00F00}};
    for (const auto& [model, value] : known) CHECK(CpuSignature::of_qemu_model(model).value == value);
    CHECK_THROWS_WITH_AS(static_cast<void>(CpuSignature::of(271, 0, 0)), "CPU family is 271, want 0 to 270", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(CpuSignature::of(23, 256, 0)), "CPU model is 256, want 0 to 255", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(CpuSignature::of(23, 1, 16)), "CPU stepping is 16, want 0 to 15", Error);
    CHECK(message_of([] { return CpuSignature::of_qemu_model("host"); }).starts_with("CPU model is 'host', want one of EPYC, EPYC-v1, "));
}

TEST_CASE("number of vCPUs: what is refused, and how") {
    CHECK(parse_vcpus("1") == 1);
    CHECK(parse_vcpus("004") == 4);
    CHECK(parse_vcpus("4096") == 4096);
    const std::vector<std::pair<const char*, const char*>> refused{
        {"", "number of vCPUs is '', which is empty, want a decimal number from 1 to 4096"},
        {"0", "number of vCPUs is '0', which is none, want a decimal number from 1 to 4096"},
        {"-1", "number of vCPUs is '-1', which is negative, want a decimal number from 1 to 4096"},
        {"-0", "number of vCPUs is '-0', which is negative, want a decimal number from 1 to 4096"},
        {"4097", "number of vCPUs is '4097', which is too many, want a decimal number from 1 to 4096"},
        {"18446744073709551617", "number of vCPUs is '18446744073709551617', which is too many, want a decimal number from 1 to 4096"},
        {"-", "number of vCPUs is '-', which is no decimal number, want a decimal number from 1 to 4096"},
        {"+4", "number of vCPUs is '+4', which is no decimal number, want a decimal number from 1 to 4096"},
        {" 4", "number of vCPUs is ' 4', which is no decimal number, want a decimal number from 1 to 4096"},
        {"0x4", "number of vCPUs is '0x4', which is no decimal number, want a decimal number from 1 to 4096"},
        {"4.0", "number of vCPUs is '4.0', which is no decimal number, want a decimal number from 1 to 4096"}};
    for (const auto& [text, message] : refused) CHECK(message_of([&, given = text] { return parse_vcpus(given); }) == message);
    CHECK_THROWS_WITH_AS(check_vcpus(0), "number of vCPUs is 0, want 1 to 4096", Error);
    CHECK_THROWS_WITH_AS(check_vcpus(4097), "number of vCPUs is 4097, want 1 to 4096", Error);
}
