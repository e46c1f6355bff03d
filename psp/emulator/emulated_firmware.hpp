// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>

#include "psp/emulator/emulator.hpp"
#include "psp/firmware.hpp"

namespace sev::psp::emulator {

/// The emulated PSP as a `Firmware`: command buffers and blobs are laid out in scratch memory attached to `memory`, in which guests are attached too.
/// Thread-safe. A command that does not answer within `deadline` throws Error{Fault::firmware}.
class EmulatedFirmware final : public Firmware {
public:
    EmulatedFirmware(Emulator& emulator, AddressSpace& memory, std::chrono::milliseconds deadline = std::chrono::seconds{30})
        : emulator_{emulator}, memory_{memory}, deadline_{deadline} {}
    Status issue(CommandId id, Call& call) override;
    void flush_caches() override { emulator_.wbinvd(); }
    std::string_view backend() const noexcept override { return "emulated"; }

private:
    Emulator& emulator_;
    AddressSpace& memory_;
    std::chrono::milliseconds deadline_;
};

} // namespace sev::psp::emulator
