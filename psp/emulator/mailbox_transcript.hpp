// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "base/bytes.hpp"
#include "psp/status.hpp"

namespace sev::psp::emulator {

/// One line for people and tests about a command: its name, what stands in its buffer, and the status.
///   LAUNCH_MEASURE handle=1 address=0x4520000 length=0->48 INVALID_LENGTH
/// Handles, policies, states, ASIDs, addresses and lengths; never what an address points to. A field that the command changed has both values.
/// `before` and `after` are the command's buffer, empty where it has none or it is not there; `status` is empty for a command that hangs.
std::string transcript_line(std::uint32_t command, ByteView before, ByteView after, std::optional<Status> status);

} // namespace sev::psp::emulator
