// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

namespace sev::attest {
/// Text of attest/data/advisories.json as it was when the library was built.
extern const std::string_view builtin_advisories_json;
} // namespace sev::attest
