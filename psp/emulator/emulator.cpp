// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/emulator.hpp"

#include "psp/emulator/machine.hpp"
#include "psp/emulator/state_file.hpp"

namespace sev::psp::emulator {
namespace {

Identity identity_of(const Chip& chip) {
    return {.personality = std::string{chip.personality->name},
            .product = chip.personality->product,
            .chip_id = chip.ids.front(),
            .ark = chip.ark,
            .ask = chip.ask,
            .cek = chip.cek};
}

} // namespace

struct Emulator::Impl {
    Impl(StateDirectory its_directory, ChipState state, Options options)
        : directory{std::move(its_directory)}, identity{identity_of(state.chip)},
          machine{std::move(state.chip), std::move(state.flash), std::move(options),
                  [this](const PlatformKeys* keys) { directory.save(machine.chip(), keys); }} {}

    StateDirectory directory;
    Identity identity;
    Faults faults;
    Machine machine;
};

Emulator::Emulator(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Emulator::~Emulator() = default;

std::unique_ptr<Emulator> Emulator::create(const Path& state_dir, const Personality& personality, Options options) {
    StateDirectory directory = StateDirectory::create(state_dir);
    ChipState state{.chip = Chip::make(personality, options.random), .flash = nullptr};
    directory.save(state.chip, nullptr);
    return std::unique_ptr<Emulator>{new Emulator{std::make_unique<Impl>(std::move(directory), std::move(state), std::move(options))}};
}

std::unique_ptr<Emulator> Emulator::open(const Path& state_dir, Options options) {
    StateDirectory directory = StateDirectory::open(state_dir);
    ChipState state = directory.load();
    return std::unique_ptr<Emulator>{new Emulator{std::make_unique<Impl>(std::move(directory), std::move(state), std::move(options))}};
}

bool Emulator::exists(const Path& state_dir) { return StateDirectory::holds_chip(state_dir); }

std::optional<Status> Emulator::execute(std::uint32_t command, SystemAddress buffer, PhysicalMemory& memory, std::chrono::milliseconds deadline) {
    const Faults::Decision fault = impl_->faults.next(command);
    if (fault.hang && !impl_->faults.wait_released(deadline)) return std::nullopt;
    if (fault.status) {
        if (CommandId{command} == CommandId::init && *fault.status == Status::secure_data_invalid) impl_->machine.lose_flash();
        return fault.status;
    }
    return impl_->machine.execute(command, buffer, memory);
}

void Emulator::wbinvd() { impl_->machine.wbinvd(); }
void Emulator::reset() { impl_->machine.reset(); }
void Emulator::read_as_guest(GuestHandle guest, SystemAddress at, std::span<std::uint8_t> out, PhysicalMemory& memory) {
    impl_->machine.read_as_guest(guest, at, out, memory);
}
Faults& Emulator::faults() noexcept { return impl_->faults; }
const Identity& Emulator::identity() const { return impl_->identity; }
const Personality& Emulator::personality() const noexcept { return *impl_->machine.chip().personality; }

} // namespace sev::psp::emulator
