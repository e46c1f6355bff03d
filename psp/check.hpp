// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <string>
#include <vector>

namespace sev::psp {

/// One check of a verdict: what was checked, whether it passed, and what was found. `check` is a stable identifier such as
/// "chain.pek.signature_by_cek"; `detail` is a sentence for people, with got and want.
struct Check {
    std::string check;
    bool passed = false;
    std::string detail;
    friend bool operator==(const Check&, const Check&) = default;
};

/// Trusted only if at least one check was made and all passed: success with nothing checked does not exist.
inline bool all_passed(const std::vector<Check>& checks) {
    return !checks.empty() && std::ranges::all_of(checks, &Check::passed);
}

} // namespace sev::psp
