// SPDX-License-Identifier: Apache-2.0
// What a VMM does with the files of somebody's session: launches one guest on an emulated PSP, and injects somebody's secret packet.
//   launch_with_files STATE GODH_B64 SESSION_B64 POLICY IMAGE
// Prints MEASURE‖MNONCE in base64, then reads a line "HEADER PAYLOAD" (paths), injects them and prints what the guest sees there, in hex.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <iostream>

#include <fmt/format.h>

#include "launch/image_guest.hpp"
#include "launch/platform.hpp"
#include "launch/steps.hpp"
#include "psp/emulator/emulated_firmware.hpp"

namespace {

using namespace sev;

constexpr std::size_t limit_bytes = 16 << 20;

/// The image at guest address 0, and a page behind it for the secret.
class Guest final : public launch::GuestMemory {
public:
    Guest(psp::AddressSpace& space, const Bytes& image) : memory_((image.size() + 4095) / 4096 * 4096 + 2 * 4096), space_{space} {
        const std::size_t skip = (4096 - std::bit_cast<std::uintptr_t>(memory_.data()) % 4096) % 4096;
        pages_ = std::span{memory_}.subspan(skip, memory_.size() - 4096);
        std::ranges::copy(image, pages_.begin());
        at_ = space.attach(pages_);
    }
    ~Guest() override { space_.detach(at_); }
    std::vector<launch::Run> locate(psp::Gpa start, std::uint64_t length_bytes) const override { return {{at_ + psp::raw(start), length_bytes}}; }
    void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const override {
        std::ranges::copy(pages_.subspan(psp::raw(start), out.size()), out.begin());
    }
    psp::Gpa secret_place() const { return psp::Gpa{pages_.size() - 4096}; }

private:
    Bytes memory_;
    std::span<std::uint8_t> pages_;
    psp::AddressSpace& space_;
    psp::SystemAddress at_{};
};

/// Exactly Size bytes of a file.
template <std::size_t Size>
ByteArray<Size> fixed(const Bytes& bytes, const std::string& what) {
    ByteArray<Size> out{};
    std::ranges::copy(wire::exactly<Size>(bytes, what), out.begin());
    return out;
}

Bytes decoded(const std::string& file) { return unbase64(read_text(file, limit_bytes), file); }

int run(const std::vector<std::string>& words) {
    if (words.size() != 5) throw Error{Fault::usage, "want STATE GODH_B64 SESSION_B64 POLICY IMAGE"};
    psp::AddressSpace space;
    const auto emulator = psp::emulator::Emulator::open(words[0]);
    psp::emulator::EmulatedFirmware firmware{*emulator, space, std::chrono::seconds{10}};
    launch::InitialisedPlatform platform{firmware, space};
    launch::AsidPool asids{{.max = emulator->personality().max_asid, .min_sev = emulator->personality().min_sev_asid}};
    const Bytes image = read_file(words[4], limit_bytes);
    Guest guest{space, image};
    const psp::LaunchStart command{.policy = psp::Policy{static_cast<std::uint32_t>(std::stoul(words[3]))},
                                   .share_with = {},
                                   .godh = psp::parse_sev_certificate(decoded(words[1]), words[1]),
                                   .session = fixed<0x80>(decoded(words[2]), words[2])};
    auto started = launch::Started::start(firmware, asids, command);
    started.update_data(guest, psp::Gpa{0}, image.size());
    auto measured = std::move(started).measure();
    fmt::print("{}\n", base64(measured.measurement().serialize()));
    std::fflush(stdout);

    std::string header, payload;
    if (!(std::cin >> header >> payload)) return 0;
    const Bytes data = read_file(payload, limit_bytes);
    measured.inject_secret(guest, guest.secret_place(), fixed<0x34>(read_file(header, limit_bytes), header), data);
    Bytes seen(data.size());
    emulator->read_as_guest(measured.handle(), guest.locate(guest.secret_place(), seen.size())[0].at, seen, space);
    fmt::print("{}\n", hex(seen));
    std::move(std::move(measured).finish()).destroy();
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run({argv + 1, argv + argc});
    } catch (const std::exception& error) {
        fmt::print(stderr, "launch_with_files: {}\n", error.what());
        return 2;
    }
}
