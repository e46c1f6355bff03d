// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/emulator/emulator.hpp"
#include "psp/emulator/state_file.hpp"
#include "tests/support.hpp"

/// A host for the emulated PSP that knows the SEV API from its tables alone: raw command buffers in a RAM of its own, no typed commands.
namespace sev::test {

using psp::CommandId;
using psp::GuestHandle;
using psp::Status;
using psp::SystemAddress;
using psp::emulator::Emulator;
using psp::emulator::Options;

/// Memory from address 0 on, as a virtual machine has it.
class Ram final : public psp::PhysicalMemory {
public:
    explicit Ram(std::size_t size_bytes) : bytes_(size_bytes) {}
    std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) override {
        if (psp::raw(at) > bytes_.size() || length_bytes > bytes_.size() - psp::raw(at)) return {};
        return std::span{bytes_}.subspan(psp::raw(at), length_bytes);
    }
    std::span<std::uint8_t> bytes() noexcept { return bytes_; }

private:
    Bytes bytes_;
};

/// A command buffer under construction.
struct Raw {
    Bytes bytes;
    explicit Raw(std::size_t size_bytes) : bytes(size_bytes) {}
    Raw& u32(std::size_t at, std::uint64_t value) { return number(at, value, 4); }
    Raw& u64(std::size_t at, std::uint64_t value) { return number(at, value, 8); }
    Raw& number(std::size_t at, std::uint64_t value, std::size_t size_bytes) {
        for (std::size_t i = 0; i < size_bytes; ++i) bytes.at(at + i) = static_cast<std::uint8_t>(value >> (8 * i));
        return *this;
    }
};

// where things lie in the host's RAM
inline constexpr std::uint64_t command_at = 0x1000, blob_at = 0x2000, blob2_at = 0x6000, blob3_at = 0xA000, nv_at = 0x1'0000, tmr_at = 0x10'0000;
inline constexpr std::uint64_t guest_at = 0x20'0000, ram_bytes = 0x40'0000;

/// State directories with a chip in them and an empty flash; the (slow) chip of each personality is made once a process.
Path chip_directory(std::string_view personality, const Path& where);

class Host {
public:
    explicit Host(std::string_view personality = "epyc-3151", Options options = {})
        : state{chip_directory(personality, directory / "psp")}, emulator{Emulator::open(state, std::move(options))} {}

    TemporaryDirectory directory;
    Path state;
    Ram ram{ram_bytes};
    std::unique_ptr<Emulator> emulator;
    Bytes reply; // the command buffer after the last command

    Status command(CommandId id, const Raw& buffer) { return command_raw(static_cast<std::uint32_t>(id), buffer.bytes); }
    Status command(CommandId id) { return command_raw(static_cast<std::uint32_t>(id), {}); }
    Status command_raw(std::uint32_t id, const Bytes& buffer) {
        std::ranges::copy(buffer, ram.bytes().subspan(command_at).begin());
        const auto status = emulator->execute(id, SystemAddress{command_at}, ram, std::chrono::seconds{60});
        reply.assign(ram.bytes().begin() + command_at, ram.bytes().begin() + command_at + static_cast<std::ptrdiff_t>(buffer.size()));
        REQUIRE(status.has_value());
        return *status;
    }
    std::uint32_t reply_u32(std::size_t at) const {
        return reply.at(at) | std::uint32_t{reply.at(at + 1)} << 8 | std::uint32_t{reply.at(at + 2)} << 16 | std::uint32_t{reply.at(at + 3)} << 24;
    }
    void put(std::uint64_t at, ByteView bytes) { std::ranges::copy(bytes, ram.bytes().subspan(at).begin()); }
    Bytes get(std::uint64_t at, std::size_t length_bytes) {
        const auto from = ram.bytes().subspan(at, length_bytes);
        return {from.begin(), from.end()};
    }

    Status init(bool es = true) { return command(CommandId::init, Raw{0x14}.u32(0, es).u64(8, es ? tmr_at : 0).u32(0x10, es ? 0x10'0000 : 0)); }
    Status df_flush() { return command(CommandId::df_flush); }
    /// INIT and DF_FLUSH.
    void start(bool es = true) {
        REQUIRE(init(es) == Status::success);
        REQUIRE(df_flush() == Status::success);
    }
    /// LAUNCH_START without a session.
    std::uint32_t launch(std::uint32_t policy, std::uint32_t share_with = 0) {
        REQUIRE(command(CommandId::launch_start, Raw{0x24}.u32(0, share_with).u32(4, policy)) == Status::success);
        return reply_u32(0);
    }
    Status launch_with(std::uint32_t policy, ByteView godh, ByteView session) {
        put(blob_at, godh);
        put(blob2_at, session);
        return command(CommandId::launch_start,
                       Raw{0x24}.u32(4, policy).u64(8, blob_at).u32(0x10, godh.size()).u64(0x18, blob2_at).u32(0x20, session.size()));
    }
    Status on_guest(CommandId id, std::uint32_t handle) { return command(id, Raw{4}.u32(0, handle)); }
    Status activate(std::uint32_t handle, std::uint32_t asid) { return command(CommandId::activate, Raw{8}.u32(0, handle).u32(4, asid)); }
    Status update_data(std::uint32_t handle, std::uint64_t at, std::uint32_t length_bytes) {
        return command(CommandId::launch_update_data, Raw{0x14}.u32(0, handle).u64(8, at).u32(0x10, length_bytes));
    }
    Status update_vmsa(std::uint32_t handle, std::uint64_t at) {
        return command(CommandId::launch_update_vmsa, Raw{0x14}.u32(0, handle).u64(8, at).u32(0x10, 0x1000));
    }
    /// The 48 bytes land at blob_at.
    Status measure(std::uint32_t handle, std::uint32_t length_bytes = 0x30) {
        return command(CommandId::launch_measure, Raw{0x14}.u32(0, handle).u64(8, blob_at).u32(0x10, length_bytes));
    }
    Status secret(std::uint32_t handle, ByteView header, ByteView data, std::uint64_t to) {
        put(blob_at, header);
        put(blob2_at, data);
        return command(CommandId::launch_secret, Raw{0x34}
                                                     .u32(0, handle)
                                                     .u64(8, blob_at)
                                                     .u32(0x10, header.size())
                                                     .u64(0x18, to)
                                                     .u32(0x20, data.size())
                                                     .u64(0x28, blob2_at)
                                                     .u32(0x30, data.size()));
    }
    Bytes guest_view(std::uint32_t handle, std::uint64_t at, std::size_t length_bytes) {
        Bytes out(length_bytes);
        emulator->read_as_guest(GuestHandle{handle}, SystemAddress{at}, out, ram);
        return out;
    }
    /// PDH certificate and PEK‖OCA‖CEK.
    struct Certificates {
        Bytes pdh, chain;
        friend bool operator==(const Certificates&, const Certificates&) = default;
    };
    Certificates certificates() {
        REQUIRE(command(CommandId::pdh_cert_export, Raw{0x1C}.u64(0, blob_at).u32(8, 0x824).u64(0x10, blob2_at).u32(0x18,
                0x186C)) == Status::success);
        return {get(blob_at, 0x824), get(blob2_at, 0x186C)};
    }
    /// PLATFORM_STATUS, 12 bytes.
    Bytes status() {
        REQUIRE(command(CommandId::platform_status, Raw{0x0C}) == Status::success);
        return reply;
    }
    /// GUEST_STATUS without the handle: POLICY, ASID, STATE.
    Bytes guest_status(std::uint32_t handle) {
        REQUIRE(command(CommandId::guest_status, Raw{0x0D}.u32(0, handle)) == Status::success);
        return {reply.begin() + 4, reply.end()};
    }
    std::uint8_t guest_state(std::uint32_t handle) { return guest_status(handle).at(8); }
    std::uint32_t guest_count() { return std::uint32_t{status().at(8)}; }
    /// All that a command that fails may not change: the platform's and the guest's status and the whole RAM but the command buffer's page.
    Bytes snapshot(std::uint32_t handle = 0) {
        Bytes all = status();
        if (handle != 0) {
            const Bytes guest = guest_status(handle);
            all.insert(all.end(), guest.begin(), guest.end());
        }
        const Digest memory = sha256(ByteView{ram.bytes()}.subspan(blob_at));
        all.insert(all.end(), memory.begin(), memory.end());
        return all;
    }
};

/// A guest owner's session towards a platform, made with OpenSSL alone; see owner.cpp's formulas.
struct Owner {
    Bytes godh, session;
    ByteArray<16> tek, tik;
    static Owner make(ByteView pdh_certificate, std::uint32_t policy);
    /// MEASURE, from build bytes, policy, digest and MNONCE.
    Bytes expected_measure(const ByteArray<3>& build, std::uint32_t policy, ByteView digest, ByteView mnonce) const;
    struct Packet {
        Bytes header, data;
    };
    Packet seal(ByteView secret, ByteView measure) const;
};

inline Bytes pattern(std::size_t length_bytes, std::uint8_t seed) {
    Bytes out(length_bytes);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(seed + i * 7 + i / 251);
    return out;
}
inline Bytes operator+(Bytes a, ByteView b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

} // namespace sev::test
