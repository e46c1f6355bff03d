// SPDX-License-Identifier: Apache-2.0
#include "psp/keys.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    const ByteView input{data, size};
    try {
        const psp::PacketHeader header = psp::PacketHeader::parse(wire::exactly<psp::PacketHeader::wire_size>(input, "input"));
        fuzz::expect(std::ranges::equal(header.serialize(), input), "a packet header serialises to the bytes it came from");
        fuzz::expect(header.flags <= 1, "reserved flags are refused");
    } catch (const Error&) {
    }
    return 0;
}
