// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <functional>
#include <memory>

#include "base/file.hpp"
#include "psp/certificate.hpp"
#include "psp/emulator/faults.hpp"
#include "psp/emulator/personality.hpp"
#include "psp/physical_memory.hpp"
#include "psp/status.hpp"

namespace sev::psp::emulator {

/// Where the emulator's random bytes come from; `purpose` names the draw ("VEK", "MNONCE", "TEK" …). Default: random_bytes.
using Random = std::function<void(std::span<std::uint8_t> out, std::string_view purpose)>;

struct Options {
    Random random = [](std::span<std::uint8_t> out, std::string_view) { random_bytes(out); };
    /// An emulator has no caches: with true the WBINVD requirement is met by itself before ACTIVATE and DF_FLUSH; with false only `wbinvd()` meets it.
    bool automatic_wbinvd = true;
    std::size_t max_guests = 1024; // guest contexts; beyond that RESOURCE_LIMIT
    /// With false the plaintext stays where it is (a measured launch of a guest whose memory nobody can encrypt); secrets and debug reads follow.
    bool encrypt_memory = true;
};

/// What AMD's key server would have of this chip: the endorsement of an emulated PSP, under its own emulated root.
struct Identity {
    std::string personality;
    Product product;
    ChipId chip_id;
    CaCertificate ark, ask;
    SevCertificate cek; // signed by the emulated ASK
};

/// The emulated PSP: the SEV API's state machines, checks and cryptography over a memory that the caller gives. Thread-safe: platform commands are
/// serialised, commands on different guests run side by side. Its persistent state (chip identity and flash) lives in one directory.
class Emulator {
public:
    /// Makes a new chip. Throws Error{Fault::usage} when the directory already holds one.
    static std::unique_ptr<Emulator> create(const Path& state_dir, const Personality& personality, Options options = {});
    /// Opens an existing chip. Throws Error{Fault::usage} when there is none, Error{Fault::malformed} when its state is torn, foreign or of a newer
    /// version: never a silent new identity. Error{Fault::system} when another process has it open.
    static std::unique_ptr<Emulator> open(const Path& state_dir, Options options = {});
    static bool exists(const Path& state_dir);
    ~Emulator();

    /// One mailbox command: `command` is the raw id, `buffer` the address of its command buffer in `memory`. nullopt: the PSP did not answer within
    /// `deadline` (an injected hang). Never throws for what the command contains.
    std::optional<Status> execute(std::uint32_t command, SystemAddress buffer, PhysicalMemory& memory, std::chrono::milliseconds deadline);

    void wbinvd();
    /// Power cycle: volatile state is gone, the flash stays.
    void reset();
    Faults& faults() noexcept;
    const Identity& identity() const;
    const Personality& personality() const noexcept;

private:
    struct Impl;
    explicit Emulator(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace sev::psp::emulator
