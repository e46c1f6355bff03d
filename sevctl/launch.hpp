// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "sevctl/command.hpp"

namespace sev::cli {

extern const Command launch_command;

} // namespace sev::cli
