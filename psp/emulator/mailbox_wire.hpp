// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/wire.hpp"

namespace sev::psp::emulator {

/// What a virtual machine's PSP device and `sev-emulator serve --mailbox` say to each other, over a Unix stream socket: frames of 28h bytes, both
/// ways, little-endian; what a kind does not use is 0. The commands' buffers do not travel: both ends share the machine's RAM.
///
///   machine → emulator                                            emulator → machine
///   hello: RAM below 4 GiB, start and size of the rest            welcome, or refused and the end
///   command: sequence, number (id), values[0] (buffer address)    answer: the sequence, number (status); or silence: there will be no answer
///   reset: power cycle, what is unanswered is forgotten           –
///
/// A connection begins with hello and is a power cycle of the PSP.
struct MailboxFrame {
    static constexpr std::size_t wire_size = 0x28;
    static constexpr std::uint32_t magic = 0x5053'5056; // "VPSP"
    static constexpr std::uint16_t version = 1;
    static constexpr std::uint32_t command_limit = 0x7FF; // bits 26:16 of the register

    enum class Kind : std::uint16_t { hello = 1, welcome, refused, command, answer, silence, reset };
    enum Refusal : std::uint32_t { busy = 1, memory = 2 }; // number of `refused`

    Kind kind{};
    std::uint32_t sequence = 0;
    std::uint32_t number = 0;
    std::array<std::uint64_t, 3> values{};

    /// Throws Error{Fault::malformed} that names the field, for another magic or version, an undefined kind, a value out of range, or one set that
    /// this kind does not have.
    static MailboxFrame parse(wire::View<wire_size> v);
    ByteArray<wire_size> serialize() const;
    friend bool operator==(const MailboxFrame&, const MailboxFrame&) = default;
};

} // namespace sev::psp::emulator
