// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <variant>
#include <vector>

#include <sys/types.h>

#include "base/bytes.hpp"

namespace sev::service {

/// Who is at the other end of a connection, as the kernel or the TLS handshake proved it. Never what the other end says of itself.
struct Peer {
    /// SO_PEERCRED and SO_PEERGROUPS of a Unix socket: the process that connected, as it was then.
    struct Process {
        uid_t uid = 0;
        gid_t gid = 0;
        pid_t pid = 0;
        std::vector<gid_t> groups{}; // the supplementary ones
        bool is_in(gid_t group) const;
        friend bool operator==(const Process&, const Process&) = default;
    };
    /// A client certificate that the configured CA signed; `fingerprint` is the SHA-256 of its DER.
    struct Certificate {
        Digest fingerprint{};
        std::string subject; // RFC 2253, printable
        friend bool operator==(const Certificate&, const Certificate&) = default;
    };
    std::variant<std::monostate, Process, Certificate> who;

    const Process* process() const noexcept { return std::get_if<Process>(&who); }
    const Certificate* certificate() const noexcept { return std::get_if<Certificate>(&who); }
    /// The identity of the channel: "uid:N", "cert:SHA256HEX", or "none".
    std::string channel() const;
    friend bool operator==(const Peer&, const Peer&) = default;
};

} // namespace sev::service
