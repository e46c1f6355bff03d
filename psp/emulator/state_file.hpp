// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "base/file.hpp"
#include "psp/emulator/chip.hpp"
#include "psp/emulator/platform_keys.hpp"

namespace sev::psp::emulator {

/// The file in which an emulated chip lives: chip and flash. Integers little-endian.
///   00h magic "xen-sev-emulator"   10h VERSION = 1   14h LENGTH of the whole file   18h personality's name, 32 bytes, zero-padded   38h number of
///   sockets
///   3Ch chip ids, 64 each; chip secret, 32; LE32 length and ARK; LE32 length and ASK; CEK, 824h; LE32 1 and PlatformKeys, or LE32 0
///   last 32 bytes: SHA-256 of all before
struct ChipState {
    Chip chip;
    std::shared_ptr<const PlatformKeys> flash; // empty flash: null
};
inline constexpr std::size_t state_limit_bytes = 1U << 16;

/// Throws Error{Fault::malformed} that says whether the bytes are foreign, torn, or of a newer version, with offset, got and want.
ChipState parse_state(ByteView bytes, std::string_view what);
SecretBytes serialize_state(const Chip& chip, const PlatformKeys* flash);

/// A state directory, mode 0700, held under a lock for as long as the object lives: `state` and `lock`, mode 0600.
class StateDirectory {
public:
    /// Makes the directory (but not its parents) or takes an empty one. Error{Fault::usage} when it holds a chip or anything else.
    static StateDirectory create(const Path& path);
    /// Error{Fault::usage} when there is no chip in it, or when others than its owner may read it; Error{Fault::system} when it is locked.
    static StateDirectory open(const Path& path);
    static bool holds_chip(const Path& path);
    /// Reads chip and flash, and holds them against each other. Error{Fault::malformed} as parse_state.
    ChipState load() const;
    /// Replaces the state file whole, and returns when it is on the disk.
    void save(const Chip& chip, const PlatformKeys* flash) const;

private:
    StateDirectory(Path path, Fd lock) : path_{std::move(path)}, lock_{std::move(lock)} {}
    Path path_;
    Fd lock_;
};

} // namespace sev::psp::emulator
