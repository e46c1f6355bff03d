// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "console/command.hpp"

namespace sev::relay {

extern const cli::Command fetch_cek_command;
extern const cli::Command fetch_ca_command;
extern const cli::Command exchange_command;

} // namespace sev::relay
