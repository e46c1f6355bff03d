// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/mailbox_wire.hpp"

namespace sev::psp::emulator {
namespace {

using Kind = MailboxFrame::Kind;

/// Which fields a kind has.
struct Shape {
    std::uint32_t sequence_max = 0, number_max = 0;
    std::size_t values = 0;
};

Shape shape_of(Kind kind) {
    switch (kind) {
    case Kind::hello: return {.values = 3};
    case Kind::refused: return {.number_max = MailboxFrame::Refusal::memory};
    case Kind::command: return {.sequence_max = UINT32_MAX, .number_max = MailboxFrame::command_limit, .values = 1};
    case Kind::answer: return {.sequence_max = UINT32_MAX, .number_max = 0xFFFF};
    case Kind::silence: return {.sequence_max = UINT32_MAX};
    case Kind::welcome:
    case Kind::reset: return {};
    }
    throw Error{Fault::bug, "a mailbox frame of no kind"};
}

[[noreturn]] void refuse(std::string_view problem) { throw Error{Fault::malformed, fmt::format("mailbox frame: {}", problem)}; }

void at_most(std::string_view field, std::uint64_t value, std::uint64_t limit) {
    if (value > limit) refuse(fmt::format("{} is {:#x}, want at most {:#x}", field, value, limit));
}

} // namespace

MailboxFrame MailboxFrame::parse(wire::View<wire_size> v) {
    if (const auto found = wire::le32<0x00>(v); found != magic) refuse(fmt::format("00h magic is {:#010x}, want {:#010x}", found, magic));
    if (const auto found = wire::le16<0x04>(v); found != version) refuse(fmt::format("04h version is {}, want {}", found, version));
    const std::uint16_t raw_kind = wire::le16<0x06>(v);
    if (raw_kind < static_cast<std::uint16_t>(Kind::hello) || raw_kind > static_cast<std::uint16_t>(Kind::reset))
        refuse(fmt::format("06h kind is {}, want 1 to 7", raw_kind));
    const MailboxFrame frame{.kind = Kind{raw_kind},
                             .sequence = wire::le32<0x08>(v),
                             .number = wire::le32<0x0C>(v),
                             .values = {wire::le64<0x10>(v), wire::le64<0x18>(v), wire::le64<0x20>(v)}};
    const Shape shape = shape_of(frame.kind);
    at_most("08h sequence", frame.sequence, shape.sequence_max);
    at_most("0Ch number", frame.number, shape.number_max);
    if (frame.kind == Kind::refused && frame.number == 0) refuse("0Ch number is 0, want the reason of a refusal");
    for (std::size_t i = shape.values; i < frame.values.size(); ++i) at_most(fmt::format("{:02X}h value", 0x10 + 8 * i), frame.values[i], 0);
    return frame;
}

ByteArray<MailboxFrame::wire_size> MailboxFrame::serialize() const {
    ByteArray<wire_size> out{};
    const auto v = wire::span(out);
    wire::put_le32<0x00>(v, magic);
    wire::put_le16<0x04>(v, version);
    wire::put_le16<0x06>(v, static_cast<std::uint16_t>(kind));
    wire::put_le32<0x08>(v, sequence);
    wire::put_le32<0x0C>(v, number);
    wire::put_le64<0x10>(v, values[0]);
    wire::put_le64<0x18>(v, values[1]);
    wire::put_le64<0x20>(v, values[2]);
    return out;
}

} // namespace sev::psp::emulator
