// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "psp/emulator/cuse_memory.hpp"
#include "psp/emulator/remote_memory.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::psp::emulator;

namespace {

/// A program that answers with the input, cut into messages: two bytes of length, then so many bytes.
class Hostile final : public Channel {
public:
    explicit Hostile(ByteView input) : input_{input} {}
    bool send(ByteView message) override {
        device_wire::Header header;
        fuzz::expect(device_wire::parse(message.data(), message.size(), header), "what the emulator says is a message");
        fuzz::expect(header.kind == device_wire::Kind::read || header.kind == device_wire::Kind::write, "the emulator reads and writes");
        return true;
    }
    std::optional<Bytes> receive() override {
        if (input_.size() < 2) return std::nullopt;
        const std::size_t length = std::min(input_[0] + std::size_t{256} * input_[1], input_.size() - 2);
        const ByteView message = input_.subspan(2, std::min(length, device_wire::message_limit_bytes));
        input_ = input_.subspan(2 + length);
        return Bytes{message.begin(), message.end()};
    }

private:
    ByteView input_;
};

} // namespace

/// Messages of the preloaded library: what parses serialises to the same bytes; a conversation with any answers ends, and breaks nothing. The same
/// bytes as what the kernel fetched for CUSE.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    device_wire::Header header;
    if (device_wire::parse(data, size, header)) {
        const ByteView payload{data + device_wire::header_size, size - device_wire::header_size};
        const Bytes again = device_message(header, payload);
        fuzz::expect(std::ranges::equal(again, ByteView{data, size}), "a message serialises to the same bytes");
    }
    Hostile channel{{data, size}};
    RemoteMemory remote{channel};
    CuseMemory cuse{{data, size}};
    for (UserMemory* const memory : {static_cast<UserMemory*>(&remote), static_cast<UserMemory*>(&cuse)}) {
        Bytes buffer(16);
        for (std::uint32_t i = 0; i < 8; ++i) {
            const std::uint64_t at = i < size ? std::uint64_t{data[i]} << (8 * i) : i;
            if (memory->read(at, buffer) == UserMemory::Access::again) break;
            if (memory->announce(at, i * 5) == UserMemory::Access::again) break;
            static_cast<void>(memory->write(at, buffer));
        }
    }
    std::size_t room = 0;
    for (const UserRange& range : cuse.outputs()) room += range.length_bytes;
    fuzz::expect(cuse.output().size() <= room, "no more is written than was announced");
    return 0;
}
