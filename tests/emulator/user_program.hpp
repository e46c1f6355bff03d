// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>

#include "psp/dev_sev.hpp"
#include "psp/emulator/linux_device.hpp"
#include "tests/support.hpp"

/// A program that knows /dev/sev from <linux/psp-sev.h> alone: its memory, and the ioctls it makes.
namespace sev::test {

namespace dev_sev = psp::dev_sev;
using psp::emulator::LinuxDevice;
using psp::emulator::UserMemory;

/// Memory in pieces; everything else is not mapped.
class ProgramMemory final : public UserMemory {
public:
    Access read(std::uint64_t address, std::span<std::uint8_t> out) override {
        const std::span<std::uint8_t> from = find(address, out.size());
        if (from.size() != out.size()) return Access::fault;
        std::ranges::copy(from, out.begin());
        return Access::done;
    }
    Access announce(std::uint64_t, std::uint32_t) override { return Access::done; }
    Access write(std::uint64_t address, ByteView bytes) override {
        const std::span<std::uint8_t> to = find(address, bytes.size());
        if (to.size() != bytes.size()) return Access::fault;
        std::ranges::copy(bytes, to.begin());
        return Access::done;
    }
    std::uint64_t put(ByteView bytes) {
        const std::uint64_t at = next_;
        next_ += bytes.size() + 0x1000;
        pieces_[at] = {bytes.begin(), bytes.end()};
        return at;
    }
    Bytes& at(std::uint64_t address) { return pieces_.at(address); }

private:
    std::span<std::uint8_t> find(std::uint64_t address, std::size_t size) {
        auto piece = pieces_.upper_bound(address);
        if (piece == pieces_.begin()) return {};
        --piece;
        const std::uint64_t offset = address - piece->first;
        if (offset > piece->second.size() || size > piece->second.size() - offset) return {};
        return std::span{piece->second}.subspan(offset, size);
    }
    std::map<std::uint64_t, Bytes> pieces_;
    std::uint64_t next_ = 0x7F00'0000'0000;
};

struct IoctlResult {
    int error_number;
    std::uint32_t firmware_error;
    friend bool operator==(const IoctlResult&, const IoctlResult&) = default;
};
inline std::ostream& operator<<(std::ostream& out, const IoctlResult& result) {
    return out << "errno " << result.error_number << ", firmware " << result.firmware_error;
}

inline IoctlResult issue(LinuxDevice& device, ProgramMemory& memory, dev_sev::Command command, std::uint64_t data, bool writable = true) {
    const std::uint64_t at = memory.put(dev_sev::IssueCommand{.command = command, .data = data, .error = 0xABCD}.serialize());
    const auto answer = device.ioctl(dev_sev::issue_command, at, writable, memory);
    CHECK_FALSE(answer.again);
    return {answer.error_number, dev_sev::IssueCommand::parse(wire::exactly<16>(memory.at(at), "issue")).error};
}

inline dev_sev::BufferPair pair_at(ProgramMemory& memory, std::uint64_t at) {
    return dev_sev::BufferPair::parse(wire::exactly<24>(memory.at(at), "pair"));
}
inline dev_sev::Buffer buffer_at(ProgramMemory& memory, std::uint64_t at) {
    return dev_sev::Buffer::parse(wire::exactly<12>(memory.at(at), "buffer"));
}

/// PDH‖PEK‖OCA‖CEK as PDH_CERT_EXPORT gives them.
inline Bytes exported(LinuxDevice& device, ProgramMemory& memory, bool writable = true) {
    const std::uint64_t pdh = memory.put(Bytes(2084)), chain = memory.put(Bytes(6252));
    const std::uint64_t data = memory.put(dev_sev::BufferPair{.first = {pdh, 2084}, .second = {chain, 6252}}.serialize());
    REQUIRE(issue(device, memory, dev_sev::Command::pdh_cert_export, data, writable) == IoctlResult{0, 0});
    Bytes out = memory.at(pdh);
    out.insert(out.end(), memory.at(chain).begin(), memory.at(chain).end());
    return out;
}

} // namespace sev::test
