// SPDX-License-Identifier: Apache-2.0
// What each shipped bundle must come to, argued from public facts beside each row; and the whole text and JSON, kept in tests/fixtures/probe.
#include <algorithm>
#include <regex>
#include <sstream>

#include "tests/probe/support.hpp"

namespace sev::probe {
namespace {

struct Expected {
    std::string_view bundle;
    Place place;
    unsigned level;
    std::string_view missing;                               // first missing layer
    std::string_view sme, tsme, sev, sev_es, snp;           // states
    std::string_view es_asids;                              // "ES/SEV", or "-"
    std::vector<std::string_view> failed;                   // expected checks that fail
};

const std::vector<Expected>& table() {
    static const std::vector<Expected> rows{
        // EDX = 1: no ASID below the lowest SEV ASID, so none for SEV-ES until the BIOS sets a limit. PSP v1 has no tsme_status: unknown, not off. No
        // SNP bit in Zen 1.
        {"epyc-3151",
         Place::bare_metal,
         2,
         "Xen",
         "firmware-enabled",
         "unknown",
         "usable now",
         "in silicon",
         "absent",
         "0/15",
         {"bios-sev-es-asids", "kvm-sev-es"}},
        // dom0's SYSCFG and ccp's message prove nothing about the BIOS: BIOS and PSP are unknown; ENOSYS on hypercall 43 is Xen's own word. L1.
        {"epyc-3151-xen-4.17",
         Place::xen_dom0,
         1,
         "Xen",
         "in silicon",
         "unknown",
         "in silicon",
         "in silicon",
         "absent",
         "0/15",
         {"bios-sev-es-asids", "xen-coco"}},
        // SYSCFG[23] = 0 on bare metal: SMEE is off, and everything above it.
        {"epyc-7601",
         Place::bare_metal,
         0,
         "BIOS",
         "in silicon",
         "unknown",
         "in silicon",
         "in silicon",
         "absent",
         "0/15",
         {"bios-smee", "bios-sev-es-asids", "psp-device", "kvm-sev", "kvm-sev-es"}},
        {"epyc-7302",
         Place::bare_metal,
         2,
         "Xen",
         "firmware-enabled",
         "unknown",
         "usable now",
         "in silicon",
         "absent",
         "0/509",
         {"bios-sev-es-asids", "kvm-sev-es"}},
        // EDX = 128: 127 for SEV-ES. SYSCFG[24] = 0: SNP is not on. tsme_status 0: off.
        {"epyc-7443", Place::bare_metal, 2, "Xen", "usable now", "off", "usable now", "usable now", "in silicon", "127/382", {}},
        // the bits are in silicon and SMEE is on, yet the PSP has no SEV: the first missing layer is its firmware
        {"ryzen-pro-4750u",
         Place::bare_metal,
         0,
         "PSP firmware",
         "firmware-enabled",
         "on",
         "firmware-enabled",
         "in silicon",
         "absent",
         "0/15",
         {"bios-sev-es-asids", "psp-device", "kvm-sev", "kvm-sev-es"}},
        // the highest extended leaf is 0x80000008: leaf 0x8000001f does not exist, whatever the record holds
        {"intel", Place::bare_metal, 0, "silicon", "absent", "absent", "absent", "absent", "absent", "-", {"cpu-vendor"}},
        // a guest sees its own SEV bit only; neither its host's BIOS nor PSP nor ASIDs
        {"cloud-sev-guest", Place::virtual_machine, 0, "", "unknown", "unknown", "in silicon", "unknown", "unknown", "-", {"host-place"}},
    };
    return rows;
}

TEST_CASE("each shipped bundle comes to what its facts say") {
    CHECK(table().size() == test::shipped_names().size());
    for (const Expected& want : table()) {
        CAPTURE(want.bundle);
        const Probe p = test::shipped(want.bundle);
        const Report r = assess(p);
        CHECK(r.machine.place == want.place);
        CHECK(r.level.level == want.level);
        CHECK((r.first_missing() ? name(r.first_missing()->layer) : std::string_view{}) == want.missing);
        CHECK(r.feature("SME").state() == want.sme);
        CHECK(r.feature("TSME").state() == want.tsme);
        CHECK(r.feature("SEV").state() == want.sev);
        CHECK(r.feature("SEV-ES").state() == want.sev_es);
        CHECK(r.feature("SEV-SNP").state() == want.snp);
        if (want.es_asids != "-") CHECK(fmt::format("{}/{}", r.machine.encryption->es_asids(), r.machine.encryption->sev_asids()) == want.es_asids);
        std::vector<std::string_view> failed;
        for (const CheckResult& check : r.checks)
            if (check.fact.no() && check.expected) failed.push_back(check.info->id);
        CHECK(failed == want.failed);
    }
}

TEST_CASE("a bundle recorded in the dom0 of a real Xen 4.17.7, on an emulated CPU without leaf 0x8000001f") {
    const Path path = test::fixture("probe/recorded-xen-lab-4.17.7.bundle.json");
    const Probe p = Bundle::parse(read_text(path, Bundle::limit_bytes), path.string());
    const Report r = assess(p);
    CHECK_FALSE(p.constructed);
    CHECK(r.machine.place == Place::xen_dom0);
    CHECK(r.machine.dom0 == Dom0Kind::pv);
    CHECK(r.machine.cpuid_source == "Xen's raw CPU policy");
    CHECK(p.coco_status.failed_with(38)); // ENOSYS: stock Xen
    CHECK(r.level.level == 1);
    // such a CPU answers 0x8000001f with another leaf's bits; its maximum is 0x8000000a
    CHECK(r.feature("SEV").state() == "absent");
    CHECK(r.machine.leaf.because.find("0x8000000a") != std::string::npos);
    Probe unlabelled = p; // the features alone say dom0 and PV too
    unlabelled.xen_capabilities = Failure{2, "No such file or directory"};
    unlabelled.xen_guest_type = Failure{2, "No such file or directory"};
    CHECK(assess(unlabelled).machine.place == Place::xen_dom0);
    CHECK(assess(unlabelled).machine.dom0 == Dom0Kind::pv);
}

TEST_CASE("single facts of the shipped bundles") {
    const auto with = [](std::string_view bundle, auto&& look) {
        const Probe p = test::shipped(bundle);
        look(assess(p), render(p, assess(p), false));
    };
    with("epyc-3151", [](const Report& r, const std::string& text) {
        CHECK(r.psp->status.build.text() == "0.17.48");
        CHECK(r.psp->status.state == psp::PlatformState::init);
        CHECK(text.find("set 'SEV-ES ASID Space Limit' in") != std::string::npos);
        CHECK(r.feature("SEV").silicon.confidence == Confidence::direct);
    });
    with("epyc-3151-xen-4.17", [](const Report& r, const std::string& text) {
        CHECK(r.machine.dom0 == Dom0Kind::pv);
        CHECK(r.machine.cpuid_source == "Xen's raw CPU policy");
        CHECK(r.feature("SEV").enabled.unknown());
        CHECK(r.feature("SEV").initialised.unknown());
        CHECK(r.check("bios-smee").fact.unknown());
        CHECK(text.find("memory encryption not enabled") == text.rfind("memory encryption not enabled")); // in the bundle's own note alone
    });
    with("epyc-7302", [](const Report& r, const std::string&) {
        CHECK(r.psp->status.externally_owned);
        CHECK(r.psp->status.guest_count == 3);
        CHECK(r.psp->status.state == psp::PlatformState::working);
    });
    with("epyc-7443", [](const Report& r, const std::string&) {
        CHECK(r.machine.encryption->c_bit == 51);
        CHECK(r.psp->status.build.text() == "1.55.8");
    });
    with("intel", [](const Report& r, const std::string& text) {
        CHECK_FALSE(r.machine.encryption);
        CHECK(text.find("is not believed") != std::string::npos);
    });
    with("cloud-sev-guest", [](const Report& r, const std::string& text) {
        CHECK(r.feature("SEV").silicon.confidence == Confidence::reported);
        CHECK(r.feature("SEV").enabled.unknown());
        CHECK(text.find("Only an attestation by its owner") != std::string::npos);
    });
}

std::vector<std::string> lines_of(const std::string& text) {
    std::istringstream in{text};
    std::vector<std::string> out;
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
}

TEST_CASE("the shipped bundles' text and JSON are those in tests/fixtures/probe") {
    for (const std::string& name : test::shipped_names()) {
        CAPTURE(name);
        const Probe p = test::shipped(name);
        const Report r = assess(p);
        json::Value value = json::Value::object();
        add_json(value, p, r);
        CHECK(render(p, r, false) == read_text(test::fixture("probe") / (name + ".txt"), 1 << 20));
        CHECK(json::pretty(value) == read_text(test::fixture("probe") / (name + ".json"), 1 << 20));
    }
}

TEST_CASE("no line is wider than 80 columns, explained or not, and every text is plain ASCII") {
    for (const std::string& name : test::shipped_names()) {
        Probe p = test::shipped(name);
        p.dmi_board_name = fmt::format("{:W<300}{}", "", "\xE6\x9D\xBF\x1b[31m"); // not operator+, of which GCC 12 wrongly says -Warray-bounds
        p.note = std::string(1000, 'n');
        const Report r = assess(p);
        for (const std::string& text :
             {render(p, r, false), render(p, r, true), render(ok_report(p, r, std::nullopt)), render(ok_report(p, r, Generation::snp))})
            for (const std::string& line : lines_of(text)) {
                CHECK(line.size() <= 80);
                CHECK(std::ranges::all_of(line, [](unsigned char c) { return c >= 0x20 && c < 0x7F; }));
            }
    }
}

TEST_CASE("nothing below L3 says that memory is encrypted or that SEV is active") {
    const std::regex claim{R"((memory|guests?|ram|dram|vms?)( \w+)? (is|are) (\w+ )?(encrypted|enciphered)|sev( \w+)? (is )?active)",
                           std::regex::icase};
    CHECK(std::regex_search(std::string{"the memory is encrypted"}, claim));
    CHECK(std::regex_search(std::string{"SEV active"}, claim));
    for (const std::string& name : test::shipped_names()) {
        CAPTURE(name);
        const Probe p = test::shipped(name);
        const Report r = assess(p);
        REQUIRE(r.level.level < first_encrypting_level);
        json::Value value;
        add_json(value, p, r);
        CHECK_FALSE(value["level"]["encrypts_guests"].get<bool>());
        for (const std::string& text : {render(p, r, false), render(p, r, true), value.dump()}) {
            std::string flat = std::regex_replace(text, std::regex{R"(\s+)"}, " ");
            CHECK_FALSE(std::regex_search(flat, claim));
        }
        CHECK(render(p, r, false).find("no guest here is protected from its host by encryption") != std::string::npos);
    }
}

TEST_CASE("--explain gives every fact with its source, and tells SME from TSME") {
    const Probe p = test::shipped("epyc-3151");
    const std::string text = std::regex_replace(render(p, assess(p), true), std::regex{R"(\s+)"}, " ");
    for (const char* const words : {"in silicon: yes", "by BIOS: yes", "SYSCFG[23] is 1; HWCR[0] is 1", "TSME in silicon: unknown",
                                    "see: docs/checks/bios-sev-es-asids.md", "With TSME on, SME adds nothing"})
        CHECK_MESSAGE(text.find(words) != std::string::npos, words);
}

} // namespace
} // namespace sev::probe
