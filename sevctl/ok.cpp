// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "launch/probe/ok.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/probing.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "GENERATION",
             .kind = Kind::choice,
             .metavar = "GENERATION",
             .help = "Which guests: sev, es (SEV-ES) or snp (SEV-SNP). Default: the highest that CPUID shows, or sev.",
             .choices = "sev|es|snp"},
    from_option,
    json_option,
};

std::optional<probe::Generation> generation_of(const Arguments& given) {
    const auto text = given.text_if("GENERATION");
    if (!text) return std::nullopt;
    return *text == "snp" ? probe::Generation::snp : *text == "es" ? probe::Generation::es : probe::Generation::sev;
}

json::Value lines_as_json(const probe::OkReport& report) {
    json::Value out = json::Value::array();
    for (const probe::OkLine& line : report.lines)
        out.push_back({{"name", line.name},
                       {"depth", line.depth / 2},
                       {"result", name(line.outcome)},
                       {"detail", line.detail.empty() ? json::Value(nullptr) : json::Value(line.detail)},
                       {"check", line.check.empty() ? json::Value(nullptr) : json::Value(line.check)},
                       {"asked", line.asked}});
    return out;
}

Answer run(const Arguments& given, Console& console) {
    const probe::Probe probe = probe_of(given);
    const probe::Report report = probe::assess(probe);
    const probe::OkReport ok = probe::ok_report(probe, report, generation_of(given));
    if (console.json()) {
        json::Value out = result_of(given);
        out["generation"] = name(ok.generation);
        out["ok"] = ok.passed();
        out["level"] = report.level.level;
        out["tests"] = lines_as_json(ok);
        console.print(out);
    } else {
        console.print(probe::render(ok));
    }
    return ok.passed() ? Answer::yes : Answer::no;
}

} // namespace

const Command ok_command{
    .name = "ok",
    .summary = "test whether SEV guests can be launched here: a tree of PASS, FAIL and SKIP",
    .text = "Runs the tests of virtee's sevctl ok and some more, and answers by its exit status: 0 when every test of the asked generation passed, 1 "
            "otherwise. A "
            "test below a failed one is skipped. So is one whose answer cannot be known from here; then the answer is no as well.\n\n"
            "Unlike virtee's it never goes by the CPU's family, model or name, reads no CPUID leaf above the CPU's maximum, and in Xen's dom0 asks "
            "for Xen's "
            "support in place of KVM's. docs/checks/ID.md explains each failure.",
    .example = "sevctl ok es",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
