// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "launch/probe/report.hpp"

namespace sev::probe {

enum class Generation { sev, es, snp };
std::string_view name(Generation generation); // "sev", "es", "snp"

enum class Outcome { pass, fail, skip };
std::string_view name(Outcome outcome); // "PASS", "FAIL", "SKIP"

/// One line of `sevctl ok`.
struct OkLine {
    unsigned depth;
    Outcome outcome;
    std::string name;
    std::string detail;  // may be empty
    std::string check;   // id of docs/checks, or empty for a plain value
    bool asked = true;   // false: it belongs to a later generation than was asked about
};

struct OkReport {
    Generation generation;
    std::vector<OkLine> lines;
    /// Every line that was asked about passed; one that could not be looked at is no pass.
    bool passed() const;
};

/// ok_report asks the question of virtee's `sevctl ok`: can guests of this generation be launched here? Tests below a failed one are skipped; so is
/// what cannot be known, and then the answer is no. Without a generation, the highest that the CPU itself shows; `sev` when it shows none.
OkReport ok_report(const Probe& probe, const Report& report, std::optional<Generation> generation);
std::string render(const OkReport& report);

} // namespace sev::probe
