// SPDX-License-Identifier: Apache-2.0
// A probe bundle: what parses must serialise and come back equal, and the assessment, the texts and the JSON must stand whatever a bundle says.
#include "launch/probe/bundle.hpp"
#include "launch/probe/ok.hpp"
#include "launch/probe/report.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    try {
        const probe::Probe p = probe::Bundle::parse(as_text({data, size}), "bundle");
        const std::string text = json::pretty(probe::Bundle::to_json(p));
        // writing spells numbers at length, so what is written may be longer than what was read, and above the limit
        if (text.size() <= probe::Bundle::limit_bytes) fuzz::expect(probe::Bundle::parse(text, "bundle again") == p, "a bundle comes back as it was");
        const probe::Report report = probe::assess(p);
        for (const bool explain : {false, true}) {
            const std::string shown = probe::render(p, report, explain);
            std::size_t column = 0;
            for (const char c : shown) {
                column = c == '\n' ? 0 : column + 1;
                fuzz::expect(column <= 80, "no line is wider than 80 columns");
                fuzz::expect(c == '\n' || (c >= 0x20 && c < 0x7F), "the text is plain ASCII");
            }
        }
        json::Value value;
        probe::add_json(value, p, report);
        fuzz::expect(!json::pretty(value).empty(), "the report is JSON");
        const auto ok = probe::ok_report(p, report, std::nullopt);
        fuzz::expect(!probe::render(ok).empty(), "ok says something");
        const bool silicon = report.machine.cpuid && report.machine.cpuid->highest(probe::leaf_extended) >= probe::leaf_encryption;
        fuzz::expect(silicon || !report.machine.encryption, "no leaf above the maximum is believed");
        fuzz::expect(silicon || !ok.passed(), "no silicon, no yes");
    } catch (const Error& error) {
        fuzz::expect(error.fault() != Fault::bug, "no broken invariant");
    }
    return 0;
}
