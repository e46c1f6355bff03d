// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "console/command.hpp"

namespace sev::cli {

/// `sevctl launch` without --psp: sevd launches, and its steps are shown as they come.
Answer launch_by_daemon(const Arguments& given, Console& console);

} // namespace sev::cli
