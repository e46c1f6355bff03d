// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "psp/command_id.hpp"
#include "psp/status.hpp"
#include "psp/types.hpp"

namespace sev::psp {

/// Memory that a command names by address and length: a certificate, a session, a report. The transport places `data` where the firmware
/// reaches it, writes the address (8 bytes) and, where the command has one, the length (4 bytes) into the command buffer, and copies outputs back.
struct Blob {
    enum class Direction { in, out };
    Direction direction;
    std::size_t address_at;
    std::size_t length_at;
    Bytes data; // in: what the firmware reads. out: as long as the caller's buffer; afterwards cut to the length the firmware wrote
};

/// One command on its way to the PSP: the command buffer as the SEV API lays it out, with the addresses of `blobs` still zero.
/// Guest memory is named by SystemAddress inside the buffer, already written.
struct Call {
    Bytes buffer;
    std::vector<Blob> blobs;
};

/// A PSP, real or emulated, behind its transport. Owned and pinned.
class Firmware {
public:
    Firmware() = default;
    Firmware(const Firmware&) = delete;
    Firmware& operator=(const Firmware&) = delete;
    virtual ~Firmware() = default;
    /// Issues one command and waits. On return the buffer holds what the firmware wrote back (also on INVALID_LENGTH: the lengths it wants).
    /// Throws Error{Fault::system} when the device cannot be reached and Error{Fault::firmware} when it does not answer within its deadline.
    virtual Status issue(CommandId id, Call& call) = 0;
    /// WBINVD on all cores, where the transport's kernel does not do it by itself before DF_FLUSH.
    virtual void flush_caches() {}
    /// "emulated", "ccp" or "xen".
    virtual std::string_view backend() const noexcept = 0;
};

/// What a command that may be refused brought back.
template <class Reply>
struct Outcome {
    Status status;
    std::optional<Reply> reply; // set when status is success
};

/// Issues a typed command; the caller decides by the status.
template <class Command>
Outcome<typename Command::Reply> attempt(Firmware& firmware, const Command& command) {
    return within(Command::name, [&]() -> Outcome<typename Command::Reply> {
        Call call = command.encode();
        const Status status = firmware.issue(Command::id, call);
        if (status != Status::success) return {status, std::nullopt};
        return {status, Command::decode(call)};
    });
}

/// Error{Fault::firmware} "COMMAND: STATUS (0x…): cause", with the remedy as hint.
inline Error refusal(std::string_view command, Status status) {
    const StatusInfo* info = find_status(static_cast<std::uint16_t>(status));
    Error error{Fault::firmware, describe(status), info ? std::string{info->remedy} : std::string{}};
    error.prepend(command);
    return error;
}

/// Issues a typed command; anything but SUCCESS throws `refusal`.
template <class Command>
typename Command::Reply run(Firmware& firmware, const Command& command) {
    auto outcome = attempt(firmware, command);
    if (!outcome.reply) throw refusal(Command::name, outcome.status);
    return *std::move(outcome.reply);
}

} // namespace sev::psp
