// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "launch/probe/device.hpp"
#include "launch/probe/probe.hpp"

namespace sev::probe {

/// Where the readers read. The defaults are the running machine.
struct Places {
    Path root = "/";                     // of /proc, /sys and /dev
    std::vector<Path> xen_modules = {};  // where xen-sev-probe-xen.so may lie
    std::optional<Path> kernel_log = {}; // a saved log in place of the running kernel's
    bool with_chip_id = false;
};

/// Reads everything once, changes nothing, and waits for nobody: every reader's outcome goes into the probe, failures too. Throws Error only for a
/// saved kernel log that cannot be read.
Probe collect(const Places& places, PspQuestions& psp, std::string tool, std::string recorded);

} // namespace sev::probe
