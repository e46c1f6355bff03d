// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/remote_memory.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace sev::psp::emulator {

Bytes device_message(const device_wire::Header& header, ByteView payload) {
    Bytes out(device_wire::header_size + payload.size());
    device_wire::serialize(header, out.data());
    std::ranges::copy(payload, out.begin() + device_wire::header_size);
    return out;
}

/// Sends one request; the answer is `wanted` with as many bytes as `out` has, or a fault.
UserMemory::Access RemoteMemory::ask(const device_wire::Header& header, ByteView payload, device_wire::Kind wanted, std::span<std::uint8_t> out) {
    if (broken_) return Access::fault;
    broken_ = true; // until the answer has been found good
    if (!channel_.send(device_message(header, payload))) return Access::fault;
    const std::optional<Bytes> answer = channel_.receive();
    device_wire::Header got;
    if (!answer || !device_wire::parse(answer->data(), answer->size(), got)) return Access::fault;
    if (got.kind == device_wire::Kind::fault) {
        broken_ = false;
        return Access::fault;
    }
    if (got.kind != wanted || got.length_bytes != out.size()) return Access::fault;
    std::ranges::copy(ByteView{*answer}.subspan(device_wire::header_size), out.begin());
    broken_ = false;
    return Access::done;
}

UserMemory::Access RemoteMemory::read(std::uint64_t address, std::span<std::uint8_t> out) {
    require(out.size() <= device_wire::payload_limit_bytes, "a copy from user memory fits a message");
    return ask({.kind = device_wire::Kind::read, .length_bytes = static_cast<std::uint32_t>(out.size()), .address = address}, {},
               device_wire::Kind::data, out);
}

UserMemory::Access RemoteMemory::write(std::uint64_t address, ByteView bytes) {
    require(bytes.size() <= device_wire::payload_limit_bytes, "a copy to user memory fits a message");
    return ask({.kind = device_wire::Kind::write, .length_bytes = static_cast<std::uint32_t>(bytes.size()), .address = address}, bytes,
               device_wire::Kind::written, {});
}

} // namespace sev::psp::emulator
