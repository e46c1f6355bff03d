// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/relay/program/configuration.hpp"
#include "console/command.hpp"

namespace sev::relay {

Milliseconds milliseconds(double seconds);

/// What the environment says, then the settings file (--config, or the default one when it is there), then --proxy.
Configuration read_configuration(const cli::Arguments& given);

/// Where certificates are kept unless somebody says so.
Path default_cache();

} // namespace sev::relay
