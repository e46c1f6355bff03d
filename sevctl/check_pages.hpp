// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string_view>

namespace sev::cli {

/// A page of docs/checks, as it is there: "# ID: TITLE", then the sections "## What is looked at", "## Why it fails" and "## What to do".
struct CheckPage {
    std::string_view id;
    std::string_view text;
};
/// Every page but README, by id. The build makes it (cmake/embed_pages.cmake).
std::span<const CheckPage> check_pages();

} // namespace sev::cli
