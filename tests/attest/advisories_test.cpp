// SPDX-License-Identifier: Apache-2.0
#include "attest/advisories.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;

namespace {

json::Value one(json::Value applies) {
    return {{"format", "xen-sev/advisories"},
            {"version", 1U},
            {"revised", "2026-01-01"},
            {"advisories", json::Value::array({{{"id", "A"},
                                                {"title", "t"},
                                                {"severity", "fail"},
                                                {"applies", std::move(applies)},
                                                {"text", "x"},
                                                {"remedy", "r"},
                                                {"source", "s"}}})}};
}
bool applies_to(json::Value predicate, const AdvisorySubject& subject) {
    return applies(Advisories::from_json(one(std::move(predicate)), "a").list.at(0), subject);
}

} // namespace

TEST_CASE("advisories: the built-in list is the data file") {
    const std::string text = read_text("attest/data/advisories.json", Advisories::limit_bytes);
    const auto file = read_message<Advisories>(text, "file");
    CHECK(file == builtin_advisories());
    CHECK(file.to_json() == json::parse(text, "file"));
    for (const char* id : {"CVE-2019-9836", "CEK-EXTRACTION-2019", "CEK-GLITCH-2021", "CVE-2021-26311", "CVE-2020-12967", "REGISTERS-READABLE"})
        CHECK(file.find(id));
    CHECK_FALSE(file.find("CVE-0"));
    for (const Advisory& advisory : file.list)
        for (const std::string* part : {&advisory.title, &advisory.text, &advisory.remedy, &advisory.source}) CHECK_FALSE(part->empty());
}

TEST_CASE("advisories: which apply to which launch") {
    const auto ids = [](psp::Product product, psp::Build build, std::uint32_t policy, bool emulated) {
        std::string out;
        for (const AdvisoryFinding& finding :
             evaluate(builtin_advisories(), {.product = product, .build = build, .policy = {policy}, .emulated = emulated}, {"CVE-2019-9836"}))
            out += fmt::format("{}{}{} ", finding.id, finding.severity == Severity::fail ? "!" : "", finding.accepted ? "+" : "");
        return out;
    };
    const psp::Build b48{.major = 0, .minor = 17, .build = 48}, b21{.major = 0, .minor = 17, .build = 21}, b22{.major = 0, .minor = 17, .build = 22};
    CHECK(ids(psp::Product::naples, b48, 5, false) == "CEK-EXTRACTION-2019 CEK-GLITCH-2021 CVE-2021-26311 CVE-2020-12967 ");
    CHECK(ids(psp::Product::naples, b22, 5, false) == "CEK-EXTRACTION-2019 CEK-GLITCH-2021 CVE-2021-26311 CVE-2020-12967 ");
    CHECK(ids(psp::Product::naples, b21, 5, false) == "CVE-2019-9836!+ CEK-EXTRACTION-2019 CEK-GLITCH-2021 CVE-2021-26311 CVE-2020-12967 ");
    CHECK(ids(psp::Product::rome, {.major = 0, .minor = 24, .build = 0}, 1, false) ==
          "CEK-GLITCH-2021 CVE-2021-26311 CVE-2020-12967 REGISTERS-READABLE ");
    CHECK(ids(psp::Product::genoa, {.major = 1, .minor = 55, .build = 0}, 4, true) == "CVE-2021-26311 CVE-2020-12967 DEBUG-ALLOWED! EMULATED-PSP ");
}

TEST_CASE("advisories: each part of a predicate") {
    const AdvisorySubject subject{.product = psp::Product::rome, .build = {.major = 0, .minor = 22, .build = 5}, .policy = {0x05}, .emulated = false};
    CHECK(applies_to(json::Value::object(), subject));
    CHECK(applies_to({{"products", {"naples", "rome"}}}, subject));
    CHECK_FALSE(applies_to({{"products", {"naples"}}}, subject));
    CHECK(applies_to({{"products", {"naples"}}}, {.product = std::nullopt, .build = {}, .policy = {}})); // unknown: may be affected
    CHECK(applies_to({{"build_below", "0.22.6"}}, subject));
    CHECK_FALSE(applies_to({{"build_below", "0.22.5"}}, subject));
    CHECK(applies_to({{"policy_has", {"NODBG", "ES"}}}, subject));
    CHECK_FALSE(applies_to({{"policy_has", {"NODBG", "NOKS"}}}, subject));
    CHECK(applies_to({{"policy_lacks", {"NOKS", "SEV"}}}, subject));
    CHECK_FALSE(applies_to({{"policy_lacks", {"NOKS", "ES"}}}, subject));
    CHECK(applies_to({{"emulated", false}}, subject));
    CHECK_FALSE(applies_to({{"emulated", true}}, subject));
    CHECK_FALSE(applies_to({{"products", {"rome"}}, {"build_below", "0.22.5"}}, subject)); // all parts must hold
}

TEST_CASE("advisories: a strange list is refused") {
    const auto refused = [](const char* pointer, const json::Value& value, const char* message) {
        json::Value list = one(json::Value::object());
        list[json::Value::json_pointer{pointer}] = value;
        CHECK_THROWS_WITH_AS(Advisories::from_json(list, "a"), doctest::Contains(message), Error);
    };
    refused("/surplus", 1, "\"surplus\" is not a key");
    refused("/advisories/0/surplus", 1, "\"surplus\" is not a key");
    refused("/advisories/0/applies/surplus", 1, "\"surplus\" is not a key");
    refused("/advisories", json::Value::array(), "advisories is empty");
    refused("/advisories/1", one(json::Value::object())["advisories"][0], "has A twice");
    refused("/advisories/0/severity", "note", "severity is \"note\", want fail or warn");
    refused("/advisories/0/applies/products", json::Value::array(), "products is empty");
    refused("/advisories/0/applies/products", {"zen"}, "has \"zen\"");
    refused("/advisories/0/applies/policy_has", {"X"}, "has \"X\"");
    refused("/advisories/0/applies/policy_lacks", json::Value::array(), "policy_lacks is empty");
    refused("/advisories/0/applies/build_below", "22", "want MAJOR.MINOR.BUILD");
    refused("/version", 2U, "version is 2, want 1");
}
