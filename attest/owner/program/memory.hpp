// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <string>

#include "console/command.hpp"

namespace sev::attest::owner {

inline constexpr cli::Argument unlocked_option{
    .name = "--unlocked-memory", .kind = cli::Kind::flag, .help = "Go on although memory cannot be locked: keys may then reach swap."};

/// Locks the memory that this process has and will have, so that no key reaches swap. Where the kernel refuses: throws Error{Fault::system} with the
/// remedy, or, with `unlocked_option`, tells `warn` why and goes on.
void lock_memory(const cli::Arguments& given, const std::function<void(const std::string& problem)>& warn);

} // namespace sev::attest::owner
