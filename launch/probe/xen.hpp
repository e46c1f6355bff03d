// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "base/file.hpp"
#include "launch/probe/probe.hpp"

namespace sev::probe {

/// Asks Xen through the helper module, which alone links Xen's libraries and is loaded only when this is dom0. Fills the xen_* and coco_* readings
/// that need it. `modules`: where the module may lie, in order of preference; the first that exists is used.
void ask_xen(Probe& probe, const std::vector<Path>& modules);

} // namespace sev::probe
