// SPDX-License-Identifier: Apache-2.0
// Each fact turned alone, from a bundle in which everything else stays.
#include <cerrno>

#include "tests/probe/support.hpp"

namespace sev::probe {
namespace {

const Failure denied{EACCES, "Permission denied"}, absent{ENOENT, "No such file or directory"}, faulted{EIO, "Input/output error"},
    no_call{ENOSYS, "Function not implemented"};

Probe bare() { return test::shipped("epyc-7443"); }
Probe dom0() { return test::shipped("epyc-3151-xen-4.17"); }

/// A Xen with the coco interface: platform flags (1 ES, 2 SNP), flags (1 supported, 2 unsafe).
Probe coco(std::uint8_t platform_flags, std::uint8_t flags) {
    Probe p = dom0();
    p.coco_status = test::coco_bytes(1, platform_flags, flags);
    return p;
}

TEST_CASE("place: Xen's dom0 by either sign, a Xen guest without them") {
    Probe p = dom0();
    CHECK(assess(p).machine.place == Place::xen_dom0);
    p.xen_capabilities = absent;
    CHECK(assess(p).machine.place == Place::xen_dom0); // features bit 11
    p.xen_features = std::uint64_t{0x228f0 & ~0x800};
    CHECK(assess(p).machine.place == Place::xen_guest);
    p.xen_features = denied;
    const Report guest = assess(p);
    CHECK(guest.machine.place == Place::xen_guest);
    CHECK(guest.level.level == 0);
    CHECK(guest.check("host-place").fact.no());
}

TEST_CASE("place: PV or PVH, by guest_type, else by the features") {
    Probe p = dom0();
    p.xen_guest_type = std::string{"PVH"};
    CHECK(assess(p).machine.dom0 == Dom0Kind::pvh);
    p.xen_guest_type = absent;
    CHECK(assess(p).machine.dom0 == Dom0Kind::pv);
    p.xen_features = std::uint64_t{0x804};
    CHECK(assess(p).machine.dom0 == Dom0Kind::pvh);
    p.xen_features = absent;
    CHECK(assess(p).machine.dom0 == Dom0Kind::unknown);
}

TEST_CASE("place: nothing known is unknown, and claims nothing") {
    const Probe empty;
    const Report r = assess(empty);
    CHECK(r.machine.place == Place::unknown);
    CHECK(r.level.level == 0);
    for (const Feature& feature : r.features) CHECK(feature.state() == "unknown");
    for (const CheckResult& check : r.checks) CHECK_FALSE((check.fact.yes() && check.info->id != "host-privileges"));
    CHECK_FALSE(ok_report(empty, r, std::nullopt).passed());
}

TEST_CASE("Xen: SYSCFG bit 23 and the kernel's message prove nothing, whatever they say") {
    for (const std::uint64_t syscfg : {0x0ULL, 0x740000ULL, 0xF40000ULL}) {
        Probe p = dom0();
        p.msr_syscfg = syscfg;
        p.msr_hwcr = std::uint64_t{1};
        CHECK(assess(p).feature("SME").enabled.unknown());
        CHECK(assess(p).feature("SEV").enabled.unknown());
        p.kernel_log = KernelLog{};
        CHECK(assess(p).feature("SEV").enabled.unknown());
    }
}

TEST_CASE("Xen: without the raw policy, dom0's own CPUID shows silicon at most, and zero shows nothing") {
    Probe p = dom0();
    p.cpuid_xen_raw = denied;
    CHECK(assess(p).feature("SEV").silicon.yes());
    CHECK(assess(p).feature("SEV").silicon.confidence == Confidence::inferred);
    test::leaf_of(p.cpuid_instruction, leaf_encryption) = {.leaf = leaf_encryption};
    const Report hidden = assess(p);
    CHECK(hidden.feature("SEV").silicon.unknown());
    CHECK(hidden.feature("SEV").state() == "unknown");
}

TEST_CASE("Xen: the raw policy's zero leaf is an answer, an absent one above the maximum too") {
    Probe p = dom0();
    auto raw = *p.cpuid_xen_raw.value();
    std::erase_if(raw.leaves, [](const CpuidLeaf& leaf) { return leaf.leaf == leaf_encryption; });
    p.cpuid_xen_raw = raw;
    CHECK(assess(p).feature("SEV").silicon.no());
    test::leaf_of(p.cpuid_xen_raw, leaf_extended).eax = 0x8000'001A;
    CHECK(assess(p).check("cpuid-leaf").fact.no());
}

TEST_CASE("the trap: SEV bits above the maximum are not believed, by no source and in no place") {
    for (const std::string_view bundle : {"epyc-7443", "epyc-3151-xen-4.17", "cloud-sev-guest"}) {
        CAPTURE(bundle);
        Probe p = test::shipped(bundle);
        for (auto* const source : {&p.cpuid_instruction, &p.cpuid_device, &p.cpuid_xen_raw})
            if (source->value()) test::leaf_of(*source, leaf_extended).eax = 0x8000'001E;
        const Report r = assess(p);
        CHECK_FALSE(r.machine.encryption);
        CHECK_FALSE(r.feature("SEV").silicon.yes());
        CHECK_FALSE(r.feature("SME").silicon.yes());
    }
}

TEST_CASE("vendor: the leaf of another vendor, or of none, means nothing") {
    Probe p = bare();
    auto& first = test::leaf_of(p.cpuid_instruction, 0);
    first.ebx = 0x756e6547, first.edx = 0x49656e69, first.ecx = 0x6c65746e; // GenuineIntel
    CHECK(assess(p).feature("SEV").silicon.no());
    CHECK(assess(p).check("cpu-vendor").fact.no());
    Probe nameless = bare();
    auto leaves = *nameless.cpuid_instruction.value();
    std::erase_if(leaves.leaves, [](const CpuidLeaf& leaf) { return leaf.leaf == 0; });
    nameless.cpuid_instruction = leaves;
    CHECK(assess(nameless).feature("SEV").silicon.unknown());
}

TEST_CASE("vendor: Hygon has the bits, and is no AMD") {
    Probe p = dom0();
    auto& first = test::leaf_of(p.cpuid_xen_raw, 0);
    first.ebx = 0x6f677948, first.edx = 0x6e65476e, first.ecx = 0x656e6975; // HygonGenuine
    const Report r = assess(p);
    CHECK(r.machine.hygon);
    CHECK(r.feature("SEV").silicon.yes());
    CHECK(r.check("cpu-vendor").fact.no());
    CHECK(r.level.level == 0);
    CHECK_FALSE(r.notes.empty());
}

TEST_CASE("the CPU's name decides nothing") {
    Probe p = bare();
    for (std::uint32_t at = 0x8000'0002; at <= 0x8000'0004; ++at) {
        auto& leaf = test::leaf_of(p.cpuid_instruction, at);
        leaf.eax = leaf.ebx = leaf.ecx = leaf.edx = 0x41414141;
    }
    test::leaf_of(p.cpuid_instruction, 1).eax = 0x0030'0F10;
    const Report r = assess(p), before = assess(bare());
    for (std::size_t i = 0; i < 5; ++i) CHECK(r.features[i].state() == before.features[i].state());
    CHECK(r.level.level == before.level.level);
}

TEST_CASE("bare metal: SMEE and SMM lock, each alone") {
    Probe p = bare();
    p.msr_syscfg = std::uint64_t{0x740000};
    CHECK(assess(p).check("bios-smee").fact.no());
    CHECK(assess(p).feature("SEV").usable.no());
    Probe unlocked = bare();
    unlocked.msr_hwcr = std::uint64_t{0};
    CHECK(assess(unlocked).check("bios-smm-lock").fact.no());
    CHECK(assess(unlocked).check("bios-smee").fact.yes());
    CHECK(assess(unlocked).feature("SEV").enabled.no());
    CHECK(assess(unlocked).feature("SME").enabled.yes());
}

TEST_CASE("bare metal without MSRs: the kernel's word, and what its silence is worth") {
    Probe p = bare();
    p.msr_syscfg = denied;
    p.msr_hwcr = denied;
    CHECK(assess(p).feature("SEV").enabled.yes());
    CHECK(assess(p).feature("SEV").enabled.confidence == Confidence::reported);
    CHECK(assess(p).check("host-privileges").fact.no());
    p.cpu_flags = std::string{"svm"};
    CHECK(assess(p).feature("SEV").enabled.unknown()); // the absence of a flag is no proof
    p.kernel_log = KernelLog{"ccp 0000:01:00.2: SEV: memory encryption not enabled by BIOS"};
    CHECK(assess(p).feature("SEV").enabled.no());
    p.msr_syscfg = std::uint64_t{0xF40000}; // the register itself goes before the message
    CHECK(assess(p).check("bios-smee").fact.yes());
    Probe missing = bare();
    missing.msr_syscfg = absent;
    CHECK(assess(missing).check("host-msr").fact.no());
}

TEST_CASE("ASIDs: none left for SEV, none for SEV-ES") {
    Probe p = bare();
    test::leaf_of(p.cpuid_instruction, leaf_encryption).edx = 510;
    CHECK(assess(p).check("bios-sev-asids").fact.no());
    CHECK(assess(p).feature("SEV").usable.no());
    CHECK(assess(p).feature("SEV-ES").usable.yes());
    test::leaf_of(p.cpuid_instruction, leaf_encryption).edx = 1;
    CHECK(assess(p).check("bios-sev-asids").fact.yes());
    CHECK(assess(p).check("bios-sev-es-asids").fact.no());
    CHECK(assess(p).feature("SEV-ES").usable.no());
}

TEST_CASE("two sources of CPUID that disagree are reported") {
    Probe p = test::shipped("epyc-3151");
    CHECK(assess(p).check("cpuid-agreement").fact.yes());
    test::leaf_of(p.cpuid_device, leaf_encryption).edx = 7;
    CHECK(assess(p).check("cpuid-agreement").fact.no());
    Probe filtered = dom0();
    CHECK(assess(filtered).check("cpuid-agreement").fact.yes());
    test::leaf_of(filtered.cpuid_instruction, leaf_encryption) = {.leaf = leaf_encryption};
    CHECK(assess(filtered).check("cpuid-agreement").fact.truth == Truth::not_applicable);
}

TEST_CASE("TSME has three values, and absence is unknown") {
    const auto state = [](const Probe& p) { return std::string{assess(p).feature("TSME").state()}; };
    Probe p = test::shipped("epyc-3151");
    CHECK(state(p) == "unknown");
    const auto device = [](std::string value) { return std::vector<PspDevice>{{"0000:01:00.2", "0x1486", "ccp", std::move(value)}}; };
    p.psp_devices = device("1");
    CHECK(state(p) == "on");
    p.psp_devices = device("0");
    CHECK(state(p) == "off");
    p.psp_devices = device("yes");
    CHECK(state(p) == "unknown");
    p.psp_devices = denied;
    CHECK(state(p) == "unknown");
    p.kernel_log = KernelLog{"ccp 0000:01:00.2: psp: TSME enabled"};
    CHECK(state(p) == "on");
    // dom0's ccp may show it too; a guest's cannot
    Probe xen = dom0();
    xen.psp_devices = device("1");
    CHECK(state(xen) == "on");
    Probe guest = test::shipped("cloud-sev-guest");
    guest.psp_devices = device("1");
    CHECK(state(guest) == "unknown");
}

TEST_CASE("SME: active by the kernel's word in either of its forms, off by its argument, else unknown") {
    Probe p = bare();
    p.kernel_arguments = std::string{};
    for (const char* const line : {"AMD Memory Encryption Features active: SME", "Memory Encryption Features active: AMD SME",
                                   "ccp: psp: Both TSME and SME are active, ..."}) {
        p.kernel_log = KernelLog{line};
        CHECK(assess(p).feature("SME").usable.yes());
    }
    for (const char* const line : {"Memory Encryption Features active: AMD SEV", "Memory Encryption Features active:", "SME"}) {
        p.kernel_log = KernelLog{line};
        CHECK(assess(p).feature("SME").usable.unknown());
    }
    p.kernel_arguments = std::string{"mem_encrypt=off"};
    CHECK(assess(p).feature("SME").usable.no());
    CHECK(assess(dom0()).feature("SME").usable.no()); // Xen sets no C-bit
}

TEST_CASE("/dev/sev: each way not to answer") {
    Probe p = bare();
    const auto id_of_failure = [&](std::string_view id) {
        const Report r = assess(p);
        return r.check(id).fact.no() && r.level.level == 0 && !r.psp;
    };
    p.platform_status = faulted;
    CHECK(id_of_failure("psp-status"));
    p.platform_status = PlatformAnswer{.status = 1, .bytes = {}};
    CHECK(id_of_failure("psp-status"));
    CHECK(assess(p).check("psp-status").fact.because.find("INVALID_PLATFORM_STATE") != std::string::npos);
    p.platform_status = PlatformAnswer{.status = 0, .bytes = {1, 55, 7}};
    CHECK(id_of_failure("psp-status"));
    CHECK(assess(p).check("psp-status").fact.because.find("02h STATE is 7") != std::string::npos);
    p.sev_device_read = denied;
    p.platform_status = denied;
    CHECK(id_of_failure("psp-access"));
    CHECK(assess(p).level.might_be_higher.find("not for this user") != std::string::npos);
    p.sev_device_read = absent;
    p.platform_status = absent;
    CHECK(id_of_failure("psp-device"));
    p.psp_devices = std::vector<PspDevice>{};
    CHECK(assess(p).check("psp-driver").fact.no());
}

TEST_CASE("/dev/sev: UNINIT, and no SEV-ES") {
    Probe p = bare();
    p.platform_status = PlatformAnswer{.status = 0, .bytes = {1, 55, 0, 0, 0, 0, 0, 8}};
    const Report uninit = assess(p);
    CHECK(uninit.level.level == 2);
    CHECK(uninit.check("psp-initialised").fact.no());
    CHECK_FALSE(uninit.feature("SEV").usable.yes());
    CHECK(uninit.layers[2].fact.yes());
    p.platform_status = PlatformAnswer{.status = 0, .bytes = {1, 55, 1, 0, 0, 0, 0, 8}};
    const Report plain = assess(p);
    CHECK(plain.check("psp-sev-es").fact.no());
    CHECK(plain.feature("SEV").usable.yes());
    CHECK_FALSE(plain.feature("SEV-ES").usable.yes());
}

TEST_CASE("an emulated /dev/sev is named, and gives no level") {
    Probe p = bare();
    p.sev_device_kernel_made = false;
    const Report r = assess(p);
    CHECK(r.level.level == 0);
    CHECK(r.check("psp-genuine").fact.no());
    CHECK(r.feature("SEV").initialised.confidence == Confidence::reported);
    CHECK(render(p, r, false).find("EMULATED") != std::string::npos);
    CHECK_FALSE(ok_report(p, r, Generation::sev).passed());
    p.sev_device_kernel_made = denied;
    CHECK(assess(p).level.level == 0);
}

TEST_CASE("a PSP inside a virtual machine is the hypervisor's") {
    Probe p = bare();
    test::leaf_of(p.cpuid_instruction, 1).ecx = 0x8000'0000;
    const Report r = assess(p);
    CHECK(r.machine.place == Place::virtual_machine);
    CHECK(r.level.level == 2);
    CHECK(r.feature("SEV").initialised.confidence == Confidence::reported);
    CHECK(render(p, r, false).find("as this machine's hypervisor presents it") != std::string::npos);
}

TEST_CASE("KVM: the module absent, and its parameter off") {
    Probe p = bare();
    p.kvm_sev = absent;
    CHECK(assess(p).feature("SEV").usable.no());
    CHECK(assess(p).feature("SEV").state() == "initialised");
    p.kvm_sev = std::string{"N"};
    CHECK(assess(p).check("kvm-sev").fact.no());
    p.kvm_sev = std::string{"1"};
    CHECK(assess(p).feature("SEV").usable.yes());
}

TEST_CASE("SNP: SYSCFG[24] and kvm_amd") {
    Probe p = bare();
    p.msr_syscfg = std::uint64_t{0x1F40000};
    p.kvm_sev_snp = std::string{"Y"};
    CHECK(assess(p).feature("SEV-SNP").state() == "usable now");
    p.kvm_sev_snp = std::string{"N"};
    CHECK(assess(p).feature("SEV-SNP").state() == "firmware-enabled");
}

TEST_CASE("the ladder under Xen") {
    const auto level = [](const Probe& p) { return assess(p).level.level; };
    CHECK(level(dom0()) == 1);
    CHECK(level(coco(0, 0)) == 1); // there, and not supported
    CHECK(level(coco(1, 2)) == 1); // disabled by policy
    CHECK(level(coco(0, 1)) == 3);
    Probe evidence = coco(0, 1);
    evidence.coco_certificates = true;
    CHECK(level(evidence) == 4);
    Probe es = coco(1, 1);
    CHECK(level(es) == 3); // the ladder has no gaps: no evidence, no L5
    es.coco_certificates = no_call;
    CHECK(level(es) == 3);
    CHECK(assess(es).check("xen-attestation").fact.no());
    es.coco_certificates = true;
    CHECK(level(es) == 5);
    Probe tdx = coco(1, 1);
    tdx.coco_status = test::coco_bytes(2, 1, 1);
    CHECK(level(tdx) == 1);
}

TEST_CASE("the ladder under Xen: what L1 needs, each alone") {
    Probe p = dom0();
    for (const auto& [given, level] :
         {std::pair{"4.17", 1U}, {"4.17.0", 1U}, {"4.16.5", 0U}, {"4.9", 0U}, {"4.22-rc", 1U}, {"5.0", 1U}, {"unstable", 0U}, {"4", 0U}}) {
        const char* const version = given; // Clang 14 does not capture a structured binding
        p.xen_version = std::string{version};
        CHECK_MESSAGE(assess(p).level.level == level, version);
    }
    Probe closed = dom0();
    closed.xen_control = denied;
    closed.coco_status = NotTried{"libxenctrl did not open"};
    CHECK(assess(closed).level.level == 0);
    CHECK_FALSE(assess(closed).level.might_be_higher.empty());
    CHECK(assess(closed).check("xen-control").fact.no());
    CHECK(assess(closed).feature("SEV").usable.unknown());
    Probe unasked = dom0();
    unasked.coco_status = faulted;
    CHECK(assess(unasked).level.level == 1);
    CHECK_FALSE(assess(unasked).level.might_be_higher.empty());
}

TEST_CASE("Xen with SEV: features, layers and checks") {
    Probe p = coco(1, 1);
    test::leaf_of(p.cpuid_xen_raw, leaf_encryption).edx = 5;
    p.coco_certificates = true;
    p.xen_toolstack_coco = true;
    const Report r = assess(p);
    CHECK(r.feature("SEV").usable.yes());
    CHECK(r.feature("SEV-ES").usable.yes());
    CHECK(r.check("xen-coco").fact.yes());
    CHECK_FALSE(r.first_missing());
    CHECK(r.layers[5].fact.unknown()); // the guest's kernel cannot be known from here
    p.xen_toolstack_coco = false;
    CHECK(name(assess(p).first_missing()->layer) == "toolstack");
    CHECK(assess(p).check("toolstack-coco").fact.no());
    Probe without_es = coco(0, 1);
    CHECK(assess(without_es).check("xen-sev-es").fact.no());
    CHECK_FALSE(assess(without_es).feature("SEV-ES").usable.yes());
}

TEST_CASE("every unknown or missing thing has its reason, every known one its source, in every bundle") {
    for (const std::string& bundle : test::shipped_names()) {
        const Probe p = test::shipped(bundle);
        const Report r = assess(p);
        CAPTURE(bundle);
        const auto sound = [](const Fact& fact) {
            CHECK_FALSE(fact.because.empty());
            CHECK((fact.yes() || fact.no()) == !fact.source.empty());
            CHECK((fact.yes() || fact.no()) == (fact.confidence != Confidence::none));
        };
        for (const Feature& f : r.features)
            for (const Fact* const stage : {&f.silicon, &f.enabled, &f.initialised, &f.usable}) sound(*stage);
        for (const LayerResult& layer : r.layers) sound(layer.fact);
        for (const CheckResult& check : r.checks) {
            CAPTURE(check.info->id);
            sound(check.fact);
            CHECK_FALSE(check.remedy.empty());
        }
    }
}

} // namespace
} // namespace sev::probe
