// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string_view>

#include "base/bytes.hpp"
#include "base/wire.hpp"

namespace sev::measure {

/// Kernel, ramdisk and command line of a direct boot, by their SHA-256. QEMU's hash of the command line covers one NUL at its end.
/// On the wire QEMU's padded hash table, 176 bytes: table GUID, u16 length 168, then an entry (GUID, u16 length 50, SHA-256) each for
/// command line, ramdisk and kernel, in this order, and 8 bytes of zero. Source: QEMU target/i386/sev.c; edk2 BlobVerifierLibSevHashes.
struct KernelHashes {
    static constexpr std::size_t wire_size = 0xB0;
    Digest kernel{}, initrd{}, cmdline{};
    /// `kernel`  SHA-256 of the kernel file as given to -kernel: QEMU does not patch its header for an encrypted guest.
    /// `initrd`  SHA-256 of the ramdisk; nullopt when there is none: hash of the empty string.
    /// `cmdline` without its NUL; empty when there is none. Throws Error{Fault::usage} when it has a NUL inside: QEMU would cut it there.
    static KernelHashes of(const Digest& kernel, const std::optional<Digest>& initrd, std::string_view cmdline);
    ByteArray<wire_size> serialize() const;
    /// Throws Error{Fault::malformed} for another GUID, length or order of entries, and for padding that is not zero: what parses
    /// serialises to the same bytes.
    static KernelHashes parse(wire::View<wire_size> v);
    friend bool operator==(const KernelHashes&, const KernelHashes&) = default;
};

} // namespace sev::measure
