// SPDX-License-Identifier: Apache-2.0
// Any sequence of commands against one emulated PSP. Input: for each command one byte that chooses it, one byte with the number of changes (0 to 3)
// to its well-formed buffer, and two bytes, offset and value, for each change.
#include <array>

#include "psp/emulator/machine.hpp"
#include "psp/structures.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace sev;
using namespace sev::psp;
using sev::fuzz::expect;

constexpr std::uint64_t buffer_at = 0x1000, blob_at = 0x2000, blob2_at = 0x4000, nv_at = 0x8000, guest_at = 0x1'8000, tmr_at = 0x10'0000;
constexpr std::size_t watched_bytes = 0x2'0000, ram_bytes = 0x20'0000, most_commands = 64;

class Ram final : public PhysicalMemory {
public:
    /// Where no TMR can be, which must be mapped as a whole.
    static constexpr std::uint64_t status_at = std::uint64_t{1} << 40;
    std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) override {
        if (raw(at) == status_at && length_bytes == status.size()) return status;
        if (raw(at) > bytes.size() || length_bytes > bytes.size() - raw(at)) return {};
        return std::span{bytes}.subspan(raw(at), length_bytes);
    }
    Bytes bytes = Bytes(ram_bytes);
    ByteArray<PlatformStatus::wire_size> status{};
};

const emulator::Personality& personality() {
    static const emulator::Personality quick = [] {
        emulator::Personality milan = *emulator::find_personality("epyc-7003");
        milan.rsa_bits = 2048; // the size of ARK and ASK does not matter here, the time to make them does
        return milan;
    }();
    return quick;
}

emulator::Machine& machine() {
    static emulator::Machine the_machine{
        emulator::Chip::make(personality(), [](std::span<std::uint8_t> out, std::string_view) { std::ranges::fill(out, std::uint8_t{0x42}); }),
                nullptr,
        [] {
            emulator::Options options;
            options.max_guests = 5;
            return options;
        }(),
        [](const emulator::PlatformKeys*) {}};
    return the_machine;
}

struct Buffer {
    ByteArray<0x44> bytes{};
    Buffer& number(std::size_t at, std::uint64_t value, std::size_t size_bytes) {
        for (std::size_t i = 0; i < size_bytes; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
        return *this;
    }
    Buffer& u32(std::size_t at, std::uint64_t value) { return number(at, value, 4); }
    Buffer& u64(std::size_t at, std::uint64_t value) { return number(at, value, 8); }
};

Buffer well_formed(CommandId id, std::uint32_t handle) {
    Buffer b;
    switch (id) {
    case CommandId::init: return b.u32(0, 1).u64(8, tmr_at).u32(0x10, 0x10'0000);
    case CommandId::init_ex: return b.u32(0, 0x24).u32(4, 1).u64(8, tmr_at).u32(0x10, 0x10'0000).u64(0x18, nv_at).u32(0x20, 0x8000);
    case CommandId::pek_csr:
    case CommandId::get_id:
    case CommandId::download_firmware: return b.u64(0, blob_at).u32(8, 0x1000);
    case CommandId::pek_cert_import: return b.u64(0, blob_at).u32(8, 0x824).u64(0x10, blob2_at).u32(0x18, 0x824);
    case CommandId::pdh_cert_export: return b.u64(0, blob_at).u32(8, 0x824).u64(0x10, blob2_at).u32(0x18, 0x186C);
    case CommandId::activate: return b.u32(0, handle).u32(4, 200);
    case CommandId::activate_ex: return b.u32(0, 0x18).u32(4, handle).u32(8, 200).u32(0xC, 1).u64(0x10, blob_at);
    case CommandId::copy: return b.u32(0, handle).u32(4, 0x100).u64(8, guest_at).u64(0x10, guest_at + 0x200);
    case CommandId::launch_start: return b;
    case CommandId::launch_update_data:
    case CommandId::launch_update_vmsa:
    case CommandId::launch_measure: return b.u32(0, handle).u64(8, guest_at).u32(0x10, 0x1000);
    case CommandId::launch_secret:
        return b.u32(0, handle).u64(8, blob_at).u32(0x10, 0x34).u64(0x18, guest_at).u32(0x20, 0x40).u64(0x28, blob2_at).u32(0x30, 0x40);
    case CommandId::attestation: return b.u32(0, handle).u64(8, blob_at).u32(0x20, 0xD0);
    case CommandId::dbg_decrypt:
    case CommandId::dbg_encrypt: return b.u32(0, handle).u64(8, guest_at).u64(0x10, guest_at + 0x80).u32(0x18, 0x100);
    default: return b.u32(0, handle);
    }
}

/// The memory that a refused command may not touch: all but the command buffer.
Digest watched(const Ram& ram) {
    const ByteView bytes{ram.bytes};
    return Sha256{}.update(bytes.first(buffer_at)).update(bytes.subspan(blob_at, watched_bytes - blob_at)).finish();
}

PlatformStatus status_of(Ram& ram) {
    expect(machine().execute(0x04, SystemAddress{Ram::status_at}, ram) == Status::success, "PLATFORM_STATUS succeeds in every state");
    const auto status = PlatformStatus::parse(wire::view(ram.status));
    expect((status.state == PlatformState::working) == (status.guest_count > 0), "WORKING means that there are guests");
    if (status.state == PlatformState::uninit) expect(!status.externally_owned && !status.es_configured, "UNINIT shows nothing");
    expect(status.guest_count <= 5, "no more guests than contexts");
    return status;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    machine().reset();
    Ram ram;
    std::ranges::fill(std::span{ram.bytes}.subspan(nv_at, 0x8000), std::uint8_t{0xFF});
    std::uint32_t handle = 1;
    std::size_t at = 0;
    const auto next = [&] { return at < size ? data[at++] : std::uint8_t{0}; };
    for (std::size_t count = 0; at < size && count < most_commands; ++count) {
        const auto& commands = all_commands();
        const CommandInfo& command = commands[next() % commands.size()];
        Buffer buffer = well_formed(command.id, handle);
        for (unsigned changes = next() % 4; changes > 0; --changes) {
            const std::size_t where = next() % buffer.bytes.size();
            buffer.bytes[where] = next();
        }
        std::ranges::copy(buffer.bytes, ram.bytes.begin() + buffer_at);
        const PlatformStatus before = status_of(ram);
        const Digest memory = watched(ram);
        const Status status = machine().execute(static_cast<std::uint32_t>(command.id), SystemAddress{buffer_at}, ram);
        expect(find_status(static_cast<std::uint16_t>(status)) != nullptr, "a status that the API defines");
        const PlatformStatus after = status_of(ram);
        if (status == Status::success) {
            if (command.id == CommandId::launch_start) handle = ram.bytes[buffer_at];
        } else {
            expect(before == after, "a refused command changes no state");
            if (status != Status::secure_data_invalid) expect(watched(ram) == memory, "a refused command changes no memory");
        }
    }
    return 0;
}
