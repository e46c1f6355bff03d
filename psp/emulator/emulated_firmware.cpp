// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/emulated_firmware.hpp"

#include <fmt/format.h>

namespace sev::psp::emulator {
namespace {

constexpr std::size_t align_bytes = 64; // more than any command asks of a certificate, session or report

constexpr std::size_t aligned(std::size_t at) { return (at + align_bytes - 1) / align_bytes * align_bytes; }

/// Memory that the emulated PSP sees for the time of one command.
class Scratch {
public:
    Scratch(AddressSpace& memory, std::size_t size_bytes) : memory_{memory}, bytes_(size_bytes), at_{memory.attach(bytes_)} {}
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { memory_.detach(at_); }
    std::span<std::uint8_t> bytes() noexcept { return bytes_; }
    SystemAddress at() const noexcept { return at_; }

private:
    AddressSpace& memory_;
    Bytes bytes_;
    SystemAddress at_;
};

void put_number(Bytes& buffer, std::size_t at, std::uint64_t value, std::size_t size_bytes) {
    require(at + size_bytes <= buffer.size(), "a blob's field lies in its command buffer");
    for (std::size_t i = 0; i < size_bytes; ++i) buffer[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

std::uint32_t number_at(const Bytes& buffer, std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value |= std::uint32_t{buffer[at + i]} << (8 * i);
    return value;
}

} // namespace

Status EmulatedFirmware::issue(CommandId id, Call& call) {
    std::size_t size = aligned(std::max<std::size_t>(call.buffer.size(), 1));
    std::vector<std::size_t> offsets;
    for (const Blob& blob : call.blobs) {
        offsets.push_back(size);
        size += aligned(std::max<std::size_t>(blob.data.size(), 1));
    }
    Scratch scratch{memory_, size};
    for (std::size_t i = 0; i < call.blobs.size(); ++i) {
        const Blob& blob = call.blobs[i];
        put_number(call.buffer, blob.address_at, raw(scratch.at()) + offsets[i], 8);
        put_number(call.buffer, blob.length_at, blob.data.size(), 4);
        if (blob.direction == Blob::Direction::in) std::ranges::copy(blob.data, scratch.bytes().subspan(offsets[i]).begin());
    }
    std::ranges::copy(call.buffer, scratch.bytes().begin());

    CommandMemory seen{memory_}; // whoever gave the command up may let go of the guest while it is still at work
    const auto status = emulator_.execute(static_cast<std::uint32_t>(id), scratch.at(), seen, deadline_);
    if (!status) throw Error{sev::Fault::firmware, fmt::format("the emulated PSP did not answer within {} ms", deadline_.count())};

    std::ranges::copy(scratch.bytes().first(call.buffer.size()), call.buffer.begin());
    if (*status != Status::success) return *status;
    for (std::size_t i = 0; i < call.blobs.size(); ++i) {
        Blob& blob = call.blobs[i];
        if (blob.direction == Blob::Direction::in) continue;
        const std::size_t written = number_at(call.buffer, blob.length_at);
        if (written > blob.data.size())
            throw Error{sev::Fault::firmware, fmt::format("the emulated PSP says it wrote {} bytes into a buffer of {}", written, blob.data.size())};
        blob.data.resize(written);
        std::ranges::copy(scratch.bytes().subspan(offsets[i], written), blob.data.begin());
    }
    return *status;
}

} // namespace sev::psp::emulator
