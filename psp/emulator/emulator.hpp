// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <functional>
#include <memory>

#include "base/file.hpp"
#include "psp/certificate.hpp"
#include "psp/emulator/chip.hpp"
#include "psp/emulator/faults.hpp"
#include "psp/emulator/personality.hpp"
#include "psp/physical_memory.hpp"
#include "psp/status.hpp"

namespace sev::psp::emulator {

struct Options {
    /// Every random byte of the emulator, but those inside OpenSSL's key generation and signatures; `purpose` names the draw: "chip secret", "chip
    /// id", "VEK", "VEK tweak", "TEK", "TIK", "MNONCE", "NV IV". Never called by two threads at once.
    Random random = [](std::span<std::uint8_t> out, std::string_view) { random_bytes(out); };
    /// An emulator has no caches: with true the WBINVD requirement is met by itself before ACTIVATE and DF_FLUSH; with false only `wbinvd()` meets
    /// it.
    bool automatic_wbinvd = true;
    std::size_t max_guests = 1024; // guest contexts; beyond that RESOURCE_LIMIT
    /// With false the plaintext stays where it is (a measured launch of a guest whose memory nobody can encrypt); secrets and debug reads follow.
    bool encrypt_memory = true;
    /// For a machine whose memory controller has no keys (QEMU's software emulation), so that its guests can run: LAUNCH_FINISH decrypts what the
    /// launch has encrypted, and from then on the guest's memory is plain to everybody. Launch digest, measurement and secrets are as ever.
    bool plain_after_finish = false;
};

/// What AMD's key server would have of this chip: the endorsement of an emulated PSP, under its own emulated root.
struct Identity {
    std::string personality;
    Product product;
    ChipId chip_id; // of socket 0
    CaCertificate ark, ask;
    SevCertificate cek; // signed by the emulated ASK
};

/// The emulated PSP: the SEV API's state machines, checks and cryptography over a memory that the caller gives. Thread-safe: platform commands are
/// serialised, commands on different guests run side by side. Its persistent state (chip identity and flash) lives in one directory, mode 0700,
/// locked against a second process. What the API leaves open is in choices.hpp.
class Emulator {
public:
    /// Makes a new chip, in a new or an empty directory. Throws Error{Fault::usage} when the directory already holds one, or anything else.
    static std::unique_ptr<Emulator> create(const Path& state_dir, const Personality& personality, Options options = {});
    /// Opens an existing chip. Throws Error{Fault::usage} when there is none or others may read it, Error{Fault::malformed} when its state is torn,
    /// foreign or of a newer version: never a silent new identity. Error{Fault::system} when another process has it open.
    static std::unique_ptr<Emulator> open(const Path& state_dir, Options options = {});
    static bool exists(const Path& state_dir);
    ~Emulator();

    /// One mailbox command: `command` is the raw id, `buffer` the address of its command buffer in `memory`. nullopt: the PSP did not answer within
    /// `deadline` (an injected hang), and the command has no effect. Never throws for what the command contains; Error{Fault::system} when the state
    /// directory cannot be written (the command had no effect) or OpenSSL fails. An injected SECURE_DATA_INVALID of INIT erases the flash in UNINIT,
    /// as the real one does.
    std::optional<Status> execute(std::uint32_t command, SystemAddress buffer, PhysicalMemory& memory, std::chrono::milliseconds deadline);

    void wbinvd();
    /// Power cycle: volatile state is gone, the flash stays.
    void reset();
    /// What the guest's own CPU would see of its memory at `at`: decrypted under its VEK, whatever its policy. Not a PSP command, and not for a
    /// host: for tests and demonstrations. Throws Error{Fault::usage} when there is no such guest or the memory is not mapped.
    void read_as_guest(GuestHandle guest, SystemAddress at, std::span<std::uint8_t> out, PhysicalMemory& memory);
    Faults& faults() noexcept;
    const Identity& identity() const;
    const Personality& personality() const noexcept;

private:
    struct Impl;
    explicit Emulator(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace sev::psp::emulator
