// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/mailbox_server.hpp"
#include "psp/emulator/mailbox_transcript.hpp"

namespace sev::psp::emulator {
namespace {

using Kind = MailboxFrame::Kind;

Bytes copy_of(std::span<std::uint8_t> memory) { return {memory.begin(), memory.end()}; }

} // namespace

MailboxSession::~MailboxSession() { emulator_.reset(); }

std::optional<MailboxFrame> MailboxSession::answer(const MailboxFrame& frame) {
    if (!greeted()) {
        if (frame.kind != Kind::hello) throw Error{sev::Fault::malformed, "mailbox: the first frame of a machine is no hello"};
        return welcome({.below_bytes = frame.values[0], .above_start = frame.values[1], .above_bytes = frame.values[2]});
    }
    switch (frame.kind) {
    case Kind::command: return execute(frame);
    case Kind::reset:
        emulator_.reset();
        hung_ = false;
        options_.log("the machine was reset: a power cycle");
        return std::nullopt;
    default: throw Error{sev::Fault::malformed, fmt::format("mailbox: a frame of kind {} from a machine", static_cast<int>(frame.kind))};
    }
}

MailboxFrame MailboxSession::welcome(const RamLayout& layout) {
    try {
        memory_ = std::make_unique<MailboxMemory>(options_.memory, layout);
    } catch (const Error& error) {
        options_.log(fmt::format("a machine was refused: {}", error.what()));
        return {.kind = Kind::refused, .number = MailboxFrame::Refusal::memory};
    }
    emulator_.reset();
    options_.log(fmt::format("a machine is connected: {} MiB of RAM below 4 GiB, {} MiB above", layout.below_bytes >> 20, layout.above_bytes >> 20));
    return {.kind = Kind::welcome};
}

MailboxFrame MailboxSession::execute(const MailboxFrame& frame) {
    const SystemAddress buffer{frame.values[0]};
    const CommandInfo* const info = find_command(frame.number);
    const std::span<std::uint8_t> live = info && info->buffer_size > 0 ? memory_->at(buffer, info->buffer_size) : std::span<std::uint8_t>{};
    const Bytes before = copy_of(live);
    std::optional<Status> status;
    if (!hung_) {
        try {
            // an injected hang is known at once; it is the machine's driver that waits
            status = emulator_.execute(frame.number, buffer, *memory_, std::chrono::milliseconds{0});
        } catch (const Error& error) {
            options_.log(fmt::format("{}: {}", info ? info->name : "a command", error.what()));
            status = Status::hwerror_platform;
        }
    }
    hung_ = !status;
    options_.transcript(transcript_line(frame.number, before, copy_of(live), status));
    if (!status) return {.kind = Kind::silence, .sequence = frame.sequence};
    return {.kind = Kind::answer, .sequence = frame.sequence, .number = static_cast<std::uint32_t>(*status)};
}

} // namespace sev::psp::emulator
