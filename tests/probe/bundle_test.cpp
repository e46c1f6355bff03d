// SPDX-License-Identifier: Apache-2.0
#include "tests/probe/support.hpp"

namespace sev::probe {
namespace {

/// A probe in which every kind of reading has a value.
Probe full() {
    Probe p = test::shipped("epyc-3151");
    p.recorded = "2026-11-22T15:00:00Z";
    p.cpuid_xen_raw = CpuidLeaves{.leaves = {{1, 2, 3, 4, 5, 6}}, .zero_leaves_left_out = true};
    p.coco_status = test::coco_bytes(1, 2, 3);
    p.coco_certificates = false;
    p.chip_id = Bytes(64, 0xA5);
    p.memlock_hard = ~std::uint64_t{0};
    p.kvm_sev = Failure{13, "Permission denied"};
    return p;
}

std::string text_of(const Probe& probe) { return json::pretty(Bundle::to_json(probe)); }

/// The bundle's text with one change made to its JSON.
template <class Change>
std::string changed(Change&& change) {
    json::Value value = Bundle::to_json(full());
    change(value);
    return value.dump();
}

TEST_CASE("a bundle comes back as it was written") {
    const Probe p = full();
    CHECK(Bundle::parse(text_of(p), "bundle") == p);
    CHECK(text_of(Bundle::parse(text_of(p), "bundle")) == text_of(p));
}

TEST_CASE("the shipped bundles are in canonical form, say that they were constructed and from what, and hold no chip id") {
    for (const std::string& name : test::shipped_names()) {
        CAPTURE(name);
        const Probe p = test::shipped(name);
        const bool canonical = read_text(Path{"docs/probe-bundles"} / (name + ".json"), Bundle::limit_bytes) == json::pretty(Bundle::to_json(p));
        CHECK(canonical);
        CHECK(p.constructed);
        CHECK(p.note.size() > 40);
        CHECK_FALSE(p.chip_id.value());
    }
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator{"docs/probe-bundles"}) files += entry.path().extension() == ".json" ? 1 : 0;
    CHECK(files == test::shipped_names().size());
}

TEST_CASE("a reading that is absent was not recorded") {
    const auto text = changed([](json::Value& v) { v["readings"].erase("msr_syscfg"); });
    CHECK(Bundle::parse(text, "bundle").msr_syscfg.not_tried()->why == "not in this record");
}

TEST_CASE("what a bundle may not be, each alone") {
    const auto refused = [](std::string_view says, auto&& change) {
        try {
            Bundle::parse(changed(change), "bundle");
            FAIL_CHECK("accepted, want: " << says);
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::malformed);
            CHECK_MESSAGE(std::string_view{error.what()}.find(says) != std::string_view::npos, std::string{error.what()});
        }
    };
    refused("format is xen-sev/other", [](auto& v) { v["format"] = "xen-sev/other"; });
    refused("version is 2", [](auto& v) { v["version"] = 2; });
    refused("\"extra\" is not a key", [](auto& v) { v["extra"] = 1; });
    refused("\"msr_unheard\" is not a key", [](auto& v) { v["readings"]["msr_unheard"] = {{"value", "0x0"}}; });
    refused("tool is missing", [](auto& v) { v.erase("tool"); });
    refused("readings is missing", [](auto& v) { v.erase("readings"); });
    refused("constructed is a string", [](auto& v) { v["constructed"] = "yes"; });
    refused("msr_syscfg: value is no number", [](auto& v) { v["readings"]["msr_syscfg"] = {{"value", "0xZ"}}; });
    refused("msr_syscfg: value is out of range", [](auto& v) { v["readings"]["msr_syscfg"] = {{"value", "0x10000000000000000"}}; });
    refused("msr_syscfg: not_tried is missing", [](auto& v) { v["readings"]["msr_syscfg"] = json::Value::object(); });
    refused("msr_syscfg: \"text\" is not a key", [](auto& v) { v["readings"]["msr_syscfg"] = {{"value", "0x0"}, {"text", "and"}}; });
    refused("msr_syscfg: text is missing", [](auto& v) { v["readings"]["msr_syscfg"] = {{"errno", 5}}; });
    refused("errno is 4096", [](auto& v) { v["readings"]["msr_syscfg"] = {{"errno", 4096}, {"text", "x"}}; });
    refused("errno is negative", [](auto& v) { v["readings"]["msr_syscfg"] = {{"errno", -1}, {"text", "x"}}; });
    refused("want an object", [](auto& v) { v["readings"]["msr_syscfg"] = 7; });
    refused("cpu_flags: value has 513 bytes", [](auto& v) { v["readings"]["cpu_flags"]["value"] = std::string(513, 'a'); });
    refused("has 65 elements", [](auto& v) {
        v["readings"]["cpuid_instruction"]["value"]["leaves"] = json::Value(65, v["readings"]["cpuid_instruction"]["value"]["leaves"][0]);
    });
    refused("leaves[0]: eax is 4294967296", [](auto& v) { v["readings"]["cpuid_instruction"]["value"]["leaves"][0]["eax"] = 4294967296; });
    refused("leaves[0]: ecx is missing", [](auto& v) { v["readings"]["cpuid_instruction"]["value"]["leaves"][0].erase("ecx"); });
    refused("has 129 elements", [](auto& v) { v["readings"]["kernel_log"]["value"] = json::Value(129, "line"); });
    refused("[0] is 513 bytes", [](auto& v) { v["readings"]["kernel_log"]["value"] = {std::string(513, 'x')}; });
    refused("[1] is not a string", [](auto& v) { v["readings"]["kernel_log"]["value"] = {"a", 1}; });
    refused("bytes", [](auto& v) { v["readings"]["platform_status"]["value"]["bytes"] = "00"; });
    refused("status is 65536", [](auto& v) { v["readings"]["platform_status"]["value"]["status"] = 65536; });
    refused("chip_id: value is not 64 bytes of hex", [](auto& v) { v["readings"]["chip_id"]["value"] = "a5"; });
    refused("psp_devices: value[0]: tsme_status is missing", [](auto& v) { v["readings"]["psp_devices"]["value"][0].erase("tsme_status"); });
    refused("has 33 elements", [](auto& v) { v["readings"]["psp_devices"]["value"] = json::Value(33, v["readings"]["psp_devices"]["value"][0]); });
}

TEST_CASE("every truncation of a bundle is refused") {
    const std::string text = Bundle::to_json(full()).dump();
    for (std::size_t length = 0; length < text.size(); ++length)
        CHECK_THROWS_AS(Bundle::parse(std::string_view{text}.substr(0, length), "bundle"), Error);
}

TEST_CASE("a bundle above the limit is refused before it is read") {
    std::string text = Bundle::to_json(full()).dump();
    text += std::string(Bundle::limit_bytes, ' ');
    CHECK_THROWS_AS(Bundle::parse(text, "bundle"), Error);
}

} // namespace
} // namespace sev::probe
