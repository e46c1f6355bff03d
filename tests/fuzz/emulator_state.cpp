// SPDX-License-Identifier: Apache-2.0
// The emulated PSP's state file: what parses must serialise to the same bytes. Each input is tried as it is, and again with LENGTH and SHA-256 put
// right.
#include "psp/emulator/state_file.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

void try_state(sev::ByteView bytes) {
    try {
        const auto state = sev::psp::emulator::parse_state(bytes, "state");
        const auto again = sev::psp::emulator::serialize_state(state.chip, state.flash.get());
        sev::fuzz::expect(std::ranges::equal(again.reveal(), bytes), "a state that parses serialises to the same bytes");
    } catch (const sev::Error&) {
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try_state({data, size});
    if (size < 0x18 + 32) return 0;
    sev::Bytes repaired(data, data + size);
    const auto length = sev::wire::le32_bytes(static_cast<std::uint32_t>(size));
    std::ranges::copy(length, repaired.begin() + 0x14);
    const sev::Digest digest = sev::sha256(sev::ByteView{repaired}.first(size - 32));
    std::ranges::copy(digest, repaired.end() - 32);
    try_state(repaired);
    return 0;
}
