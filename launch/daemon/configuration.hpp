// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "attest/protocol/jws.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "psp/xen/coco.hpp"

namespace sev::daemon {

/// A guest owner whom this host may ask: by whose key answers are believed, and how to reach it.
struct Owner {
    struct UnixChannel {
        Path path; // HTTP POST /v1/exchange
        friend bool operator==(const UnixChannel&, const UnixChannel&) = default;
    };
    struct CommandChannel {
        std::vector<std::string> argv; // one step: the request on stdin, the answer on stdout; argv[0] is an absolute path
        friend bool operator==(const CommandChannel&, const CommandChannel&) = default;
    };
    attest::OwnerKey key;
    std::variant<UnixChannel, CommandChannel> channel;
    std::chrono::seconds deadline{120}; // for one step, with all its attempts
    friend bool operator==(const Owner&, const Owner&) = default;
};

/// Which PSP, and how. The emulated one is used only where "backend" names it.
struct PspChoice {
    enum class Backend { emulated, ccp, xen } backend = Backend::ccp;
    Path state;                   // emulated: the chip's directory, made by sev-emulator create
    std::vector<std::string> faults; // emulated: injected from the start, "LAUNCH_START=HWERROR_UNSAFE,skip=1"
    Path device = "/dev/sev";     // ccp
    std::optional<psp::xen::Layout> layout; // xen: of the coco hypercall; needed where the hypervisor does not tell
    std::optional<Path> cek, ca;  // ccp, xen: AMD's endorsement of this chip: the signed CEK, and ASK and ARK
    std::chrono::milliseconds deadline{30'000}; // for one command
    friend bool operator==(const PspChoice&, const PspChoice&) = default;
};

/// This host's Xen: with it sevd launches domains, and the emulated PSP measures only. Paths that are absent: where the packages have them.
struct XenHost {
    Path keeper; // the program xen-sev-keeper
    Path xl = "/usr/sbin/xl";
    Path references = "/var/lib/xen-sev/references"; // ACPI reference values
    std::optional<Path> hvmloader, ovmf, seabios;
    friend bool operator==(const XenHost&, const XenHost&) = default;
};

/// sevd's configuration file. JSON, format "xen-sev/sevd-configuration", docs/schemas/sevd-configuration.schema.json; unknown keys are refused. "psp"
/// has no default.
struct Configuration {
    static constexpr std::string_view format = "xen-sev/sevd-configuration";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 1U << 20, owner_limit = 256, argument_limit = 64;

    PspChoice psp;
    Path socket = "/run/xen-sev/sevd.sock";
    std::optional<std::string> group; // may read: the socket's group
    std::set<unsigned> writers{0};    // uids that may change things
    Path state = "/var/lib/xen-sev";  // the journal's directory
    std::map<std::string, Owner> owners;
    std::optional<XenHost> xen; // absent: no Xen domains
    std::size_t launch_limit = 128;   // at a time, running guests included
    std::uint64_t memory_limit_bytes = std::uint64_t{64} << 30; // of image guests, together

    /// Throws Error{Fault::malformed} with the key, got and want.
    static Configuration from_json(const json::Value& value, std::string_view what);
    static Configuration parse(std::string_view text, std::string_view what);
    /// Reads a file that nobody but root and the user sevd runs as may write. Throws Error{Fault::usage} for another one.
    static Configuration load(const Path& path);
    /// What another configuration cannot change while the daemon runs: "psp", "socket", "limits.guest_memory_bytes" …; empty when all of it can be
    /// taken over.
    std::vector<std::string> needs_restart(const Configuration& other) const;
    friend bool operator==(const Configuration&, const Configuration&) = default;
};

} // namespace sev::daemon
