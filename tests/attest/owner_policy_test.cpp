// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "attest/advisories.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;

namespace {

json::Value good() { return test::attest_json("owner-policy.json"); }
json::Value rich() { return json::parse(read_text("tests/fuzz/corpus/policy_json/recipes", 1U << 20), "recipes"); }
OwnerPolicy read(const json::Value& value) { return OwnerPolicy::from_json(value, "p", ""); }
json::Value::json_pointer at(const std::string& pointer) { return json::Value::json_pointer{pointer}; }

/// `value` put at `pointer` of a good policy is refused with a message that contains `message`.
void refused(const std::string& pointer, const json::Value& value, const char* message, json::Value policy = good()) {
    CAPTURE(pointer);
    policy[at(pointer)] = value;
    CHECK_THROWS_WITH_AS(read(policy), doctest::Contains(message), Error);
}

void pointers_of(const json::Value& value, const std::string& here, std::vector<std::string>& objects, std::vector<std::string>& all) {
    if (!here.empty()) all.push_back(here);
    if (value.is_object()) objects.push_back(here);
    if (value.is_object())
        for (const auto& [key, child] : value.items()) pointers_of(child, here + "/" + key, objects, all);
    if (value.is_array())
        for (std::size_t i = 0; i < value.size(); ++i) pointers_of(value[i], fmt::format("{}/{}", here, i), objects, all);
}

std::string ids(const OwnerPolicy& policy, bool fatal) {
    std::string out;
    for (const LintFinding& finding : lint(policy, test::june))
        if (finding.fatal == fatal) out += (out.empty() ? "" : " ") + finding.id;
    return out;
}

} // namespace

TEST_CASE("policy file: credentials for an SMBIOS slot") {
    json::Value policy = good();
    policy["secrets"][0].erase("guid");
    policy["secrets"][0]["smbios"] = {{"credential", "disk.key"}, {"slot_bytes", 512U}};
    CHECK(read(policy).secrets.at(0).target == decltype(SecretRule::target){SmbiosTarget{.credential = "disk.key", .slot_bytes = 512}});
    CHECK(read(read(policy).to_json()) == read(policy));
    CHECK(show(read(policy)).find("as smbios credential disk.key") != std::string::npos);
    refused("/secrets/0/smbios/slot_bytes", 500U, "p: secrets[0]: smbios: slot_bytes is 500, want a multiple of 16 from 64 to 32768", policy);
    refused("/secrets/0/smbios/slot_bytes", 48U, "slot_bytes is 48", policy);
    refused("/secrets/0/smbios/slot_bytes", 65536U, "slot_bytes is 65536", policy);
    refused("/secrets/0/smbios/credential", "a/b", "credential name \"a/b\": want", policy);
    refused("/secrets/0/smbios/more", 1U, "more", policy);
    json::Value second = policy["secrets"][0];
    second["name"] = "second";
    refused("/secrets/1", second, "\"smbios credential disk.key\" stands twice", policy);
    second["smbios"] = {{"credential", "other"}, {"slot_bytes", 1024U}};
    refused("/secrets/1", second, "slot_bytes is 512 and 1024, want one size", policy);
    second["smbios"] = {{"credential", "other"}, {"slot_bytes", 512U}};
    policy["secrets"][1] = second;
    CHECK(read(policy).secrets.size() == 2);
}

TEST_CASE("policy file: read, and written the same") {
    for (const json::Value& value : {good(), rich()}) {
        const OwnerPolicy policy = read(value);
        const OwnerPolicy again = read(policy.to_json());
        CHECK(again == policy);
        CHECK(diff(policy, again).empty());
        CHECK_FALSE(show(policy).empty());
    }
    const OwnerPolicy policy = read(good());
    CHECK(policy.owner == "fixture");
    CHECK(policy.required_bits == psp::Policy::nodbg);
    CHECK(policy.forbidden_bits == psp::Policy::es);
    CHECK(policy.minimum_build == psp::Build{.major = 0, .minor = 17, .build = 22});
    CHECK(policy.session_policy() == psp::Policy{0x11000001});
    CHECK(policy.session_policy().minimum_api() == psp::ApiVersion{.major = 0, .minor = 17});
    REQUIRE(policy.roots().size() == 1);
    CHECK_FALSE(policy.roots().at(0).amd);
    CHECK_FALSE(policy.accept_unproven_build);
}

TEST_CASE("policy file: an unknown key in any object is refused") {
    for (const json::Value& whole : {good(), rich()}) {
        std::vector<std::string> objects, all;
        pointers_of(whole, "", objects, all);
        for (const std::string& pointer : objects) refused(pointer + "/surplus", 1, "\"surplus\" is not a key that is known here", whole);
    }
}

TEST_CASE("policy file: a wrong type anywhere is refused") {
    for (const json::Value& whole : {good(), rich()}) {
        std::vector<std::string> objects, all;
        pointers_of(whole, "", objects, all);
        for (const std::string& pointer : all) {
            CAPTURE(pointer);
            for (const json::Value& wrong :
                 {json::Value(nullptr), json::Value(-1), json::Value(1.5), json::Value("\x01"), json::Value::array({json::Value::array()})}) {
                json::Value policy = whole;
                policy[at(pointer)] = wrong;
                CAPTURE(wrong.dump());
                CHECK_THROWS_AS(read(policy), Error);
            }
        }
    }
}

TEST_CASE("policy file: every key must be there, but for those that have a safe default") {
    const std::vector<std::string> optional{"/accepted_advisories",
                                            "/secrets",
                                            "/secrets/0/when",
                                            "/secrets/0/when/references",
                                            "/secrets/0/when/level",
                                            "/chips/0/id",
                                            "/references/0/image/parts/0/gpa",
                                            "/references/0/image/parts/1/gpa",
                                            "/references/0/image/parts/1/length"};
    std::vector<std::string> objects, all;
    pointers_of(good(), "", objects, all);
    for (const std::string& pointer : all) {
        const auto slash = pointer.rfind('/');
        const std::string parent = pointer.substr(0, slash), key = pointer.substr(slash + 1);
        json::Value policy = good();
        if (!policy[at(parent)].is_object()) continue;
        policy[at(parent)].erase(key);
        CAPTURE(pointer);
        if (std::ranges::find(optional, pointer) == optional.end()) CHECK_THROWS_AS(read(policy), Error);
        else CHECK_NOTHROW(read(policy));
    }
}

TEST_CASE("policy file: an empty list denies") {
    test::FixtureLaunch launch;
    const auto fails = [&](const std::string& pointer, const std::string& checks) {
        json::Value policy = good();
        policy[at(pointer)] = json::Value::array();
        if (pointer == "/references") policy["secrets"] = json::Value::array();
        launch.policy = OwnerPolicy::from_json(policy, "p", test::fixture("attest"));
        launch.references = resolve_references(launch.policy);
        CHECK(test::failed(launch.judge().verdict.checks) == checks);
        CHECK_FALSE(ids(launch.policy, true).empty());
    };
    fails("/chips", "platform.chip");
    fails("/references", "launch.digest");
    fails("/evidence", "evidence.kind");
    json::Value policy = good();
    policy["roots"]["other"] = json::Value::array();
    launch = {};
    launch.policy = OwnerPolicy::from_json(policy, "p", test::fixture("attest"));
    const std::string failed = test::failed(launch.judge().verdict.checks);
    CHECK(failed.find("chain.roots") != std::string::npos);
    CHECK(failed.find("platform.root_kind") != std::string::npos);
}

TEST_CASE("policy file: what makes no sense is refused, with the place and what is wanted") {
    refused("/format", "xen-sev/bundle", "p: format is \"xen-sev/bundle\", want \"xen-sev/owner-policy\"");
    refused("/version", 2U, "p: version is 2, want 1");
    refused("/chips", "all", "p: chips is \"all\", want \"any\" or a list");
    refused("/chips/0", {{"label", "x"}, {"id", std::string(128, '0')}}, "a chip id alone is only what the host says");
    refused("/chips/0/cek", "00", "p: chips[0]: cek: 2 characters, want 64 hex digits");
    refused("/roots/amd", {"zen"}, "product is \"zen\", want naples, rome, milan, genoa or turin");
    refused("/roots/amd", {"rome", "rome"}, "\"rome\" stands twice");
    refused("/roots/other/0/fingerprint", hex(psp::amd_roots().at(0).fingerprint), "is that of an AMD root");
    refused("/minimum_build", "0.17", "want MAJOR.MINOR.BUILD");
    refused("/guest_policy/required", {"DEBUG"}, "p: guest_policy: required has \"DEBUG\", want NODBG, NOKS, ES, NOSEND, DOMAIN or SEV");
    refused("/guest_policy/required", {"ES", "ES"}, "has ES twice");
    refused("/level", 6U, "p: level is 6, want 0 … 5");
    refused("/evidence", {"hearsay"}, "is \"hearsay\", want measurement or report");
    refused("/evidence", {"report", "report"}, "\"report\" stands twice");
    refused("/validity/not_after", "2025-12-31T00:00:00Z", "before not_before");
    refused("/references/0/digest", std::string(64, '0'), "want exactly one of them");
    refused("/references/0/image/parts", json::Value::array(), "is empty, want at least one part");
    refused("/references/0/image/parts/0/length", 17U, "length is 17, want a multiple of 16 above 0");
    refused("/references/1", good()["references"][0], "\"fixture image\" stands twice");
    refused("/secrets/0/guid", "luks", "want a GUID such as");
    refused("/secrets/0/file_name", "a", "want exactly one of them");
    refused("/secrets/0/smbios", {{"credential", "a"}, {"slot_bytes", 512U}}, "want exactly one of them");
    refused("/secrets/0/when/references", {"no such"}, "waits for reference \"no such\", which is not in references");
    refused("/secrets/0/when/es", false, "is false, want true");
    refused("/secrets/0/path", "", "is empty, want a path");
    json::Value again = good()["secrets"][0];
    again["name"] = "other";
    refused("/secrets/1", again, "stands twice");
    refused("/accepted_advisories", {"A", "A"}, "\"A\" stands twice");
    const auto qemu = [](const json::Value& recipe, const char* message) {
        refused("/references/0", {{"name", "fixture image"}, {"qemu", recipe}}, message);
    };
    qemu({{"firmware", "f"}, {"initrd", "i"}}, "initrd is there, but kernel is not");
    qemu({{"firmware", "f"}, {"cmdline", "c"}}, "cmdline is there, but kernel is not");
    qemu({{"firmware", "f"}, {"vcpus", 0U}, {"vmsa_profile", "krun"}}, "vcpus is 0, want 1 … 4096");
    qemu({{"firmware", "f"}, {"vcpus", -1}, {"vmsa_profile", "krun"}}, "vcpus is negative");
    qemu({{"firmware", "f"}, {"vcpus", 4097U}, {"vmsa_profile", "krun"}}, "vcpus is 4097, want 0 … 4096");
    qemu({{"firmware", "f"}, {"vcpus", 1U}, {"cpu", "EPYC"}}, "vmsa_profile is missing");
    qemu({{"firmware", "f"}, {"vcpus", 1U}, {"vmsa_profile", "kvm"}, {"cpu", "EPYC"}}, "vmsa_profile: ");
    qemu({{"firmware", "f"}, {"vcpus", 1U}, {"vmsa_profile", "kvm-legacy"}}, "cpu is missing");
    qemu({{"firmware", "f"}, {"cpu", "EPYC"}}, "cpu is there, but vcpus is not");
}

TEST_CASE("policy file: limits") {
    refused("/owner", std::string(129, 'a'), "129 bytes, want 1 to 128");
    json::Value many = json::Value::array();
    for (std::size_t i = 0; i <= OwnerPolicy::list_limit; ++i) many.push_back(fmt::format("id {}", i));
    refused("/accepted_advisories", many, "has 1025 elements, more than the limit of 1024");
    CHECK_THROWS_WITH_AS(OwnerPolicy::parse(std::string(OwnerPolicy::limit_bytes + 1, ' '), "p", ""),
                         doctest::Contains("more than the limit of 1048576"), Error);
    CHECK_THROWS_AS(OwnerPolicy::load("tests/fixtures/attest/absent.json"), Error);
    CHECK_THROWS_AS(OwnerPolicy::load("tests/fixtures/attest"), Error);
}

TEST_CASE("lint: nothing fatal in the fixture, and each fatal thing is found") {
    CHECK(ids(read(good()), true).empty());
    const auto fatal = [](const std::function<void(OwnerPolicy&)>& change) {
        OwnerPolicy policy = read(good());
        change(policy);
        return ids(policy, true);
    };
    CHECK(fatal([](auto& p) { p.other_roots.clear(); }) == "roots-empty");
    CHECK(fatal([](auto& p) { p.chips->clear(); }) == "chips-empty");
    CHECK(fatal([](auto& p) { p.references.clear(); }) == "references-empty");
    CHECK(fatal([](auto& p) { p.evidence.clear(); }) == "evidence-empty");
    CHECK(fatal([](auto& p) { p.not_after = test::june - std::chrono::seconds{1}; }) == "expired");
    CHECK(fatal([](auto& p) { p.required_bits |= psp::Policy::es; }) == "bits-contradict");
    CHECK(fatal([](auto& p) { p.level = 2; }) == "level-unreachable");
    CHECK(fatal([](auto& p) { p.evidence = {EvidenceKind::report}; }) == "build-unprovable");
}

TEST_CASE("lint: what is weaker than it may seem is said") {
    const auto warned = [](const char* id, const std::function<void(OwnerPolicy&)>& change) {
        OwnerPolicy policy = read(good());
        change(policy);
        CAPTURE(id);
        CHECK((" " + ids(policy, false) + " ").find(fmt::format(" {} ", id)) != std::string::npos);
    };
    warned("chips-any", [](auto& p) { p.chips.reset(); });
    warned("nodbg-not-required", [](auto& p) { p.required_bits = 0; });
    warned("noks-not-required", [](auto&) {});
    warned("es-not-required", [](auto&) {});
    warned("nosend-not-required", [](auto&) {});
    warned("emulated-root", [](auto&) {});
    warned("other-root", [](auto& p) { p.other_roots.at(0).emulated = false; });
    warned("level-0", [](auto& p) { p.level = 0; });
    warned("not-yet-valid", [](auto& p) { p.not_before = test::june + std::chrono::seconds{1}; });
    warned("valid-for-long", [](auto& p) { p.not_after = p.not_before + std::chrono::years{3}; });
    warned("unproven-build-accepted", [](auto& p) { p.accept_unproven_build = true; });
    warned("secrets-unreachable", [](auto& p) { p.evidence = {EvidenceKind::report}; });
    warned("reference-without-vmsas", [](auto& p) { p.required_bits = psp::Policy::es; });
    warned("reference-with-vmsas", [](auto& p) { std::get<ImageRecipe>(p.references.at(0).value).vcpus = 1; });
    warned("kernel-unmeasured", [](auto& p) {
        p.references.at(0).value = QemuRecipe{.firmware = "f", .kernel = {}, .initrd = {}, .cmdline = {}, .vmsa_profile = {}, .cpu = {}};
    });
    warned("secret-never", [](auto& p) { p.secrets.at(0).references = std::vector<std::string>{}; });
    warned("advisory-unknown", [](auto& p) { p.accepted_advisories = {"CVE-0"}; });
    warned("advisory-accepted", [](auto& p) { p.accepted_advisories = {"CVE-2019-9836"}; });
}

TEST_CASE("diff and show") {
    OwnerPolicy left = read(good()), right = left;
    right.level = 0;
    right.chips.reset();
    right.accepted_advisories = {"CVE-2019-9836"};
    const auto differences = diff(left, right);
    REQUIRE(differences.size() == 3);
    CHECK(differences.at(0).path == "/chips");
    CHECK(differences.at(0).right == "\"any\"");
    CHECK(differences.at(1) == PolicyDifference{.path = "/level", .left = "1", .right = "0"});
    CHECK(differences.at(2) == PolicyDifference{.path = "/accepted_advisories/0", .left = std::nullopt, .right = "\"CVE-2019-9836\""});
    const std::string text = show(left);
    for (const char* part :
         {"fixture root", "EMULATED", "fixture chip", "0.17.22", "NODBG", "L1", "measurement", "fixture image", "one.bin", "disk key"}) {
        CAPTURE(part);
        CHECK(text.find(part) != std::string::npos);
    }
}
