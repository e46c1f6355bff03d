// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "launch/probe/bundle.hpp"
#include "console/command.hpp"

/// What status, ok and probe share: a probe of this machine, or one from a file.
namespace sev::cli {

inline constexpr Argument from_option{
    .name = "--from",
    .kind = Kind::input,
    .metavar = "BUNDLE",
    .help = "Judge a probe bundle that sevctl probe wrote (JSON, docs/schemas/probe-bundle.schema.json) instead of this machine.",
    .limit_bytes = probe::Bundle::limit_bytes};
inline constexpr Argument kernel_log_option{.name = "--kernel-log",
                                            .kind = Kind::input,
                                            .metavar = "LOG",
                                            .help = "Take the kernel's messages from this file (dmesg or journalctl -k -b) instead of the running "
                                                    "kernel, which may not show them or may have dropped them.",
                                            .content = Content::any,
                                            .limit_bytes = 8 << 20};
inline constexpr Argument chip_id_option{
    .name = "--with-chip-id", .kind = Kind::flag, .help = "Ask for the chip's unique id too. It names this one chip, so it is left out otherwise."};

/// The probe that the arguments ask for. Throws Error for a bundle that is none, and {Fault::usage} for options that exclude each other.
probe::Probe probe_of(const Arguments& arguments);

} // namespace sev::cli
