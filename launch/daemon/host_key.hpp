// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <mutex>
#include <optional>

#include "attest/protocol/signed_bundle.hpp"
#include "base/file.hpp"

namespace sev::daemon {

/// The key this host signs bundles with: P-384, DIRECTORY/host.key (DER, mode 0600), made when it is first needed. It says which host collected a
/// bundle and frees nothing. Thread-safe.
class HostKeyFile {
public:
    explicit HostKeyFile(const Path& directory) : path_{directory / "host.key"} {}
    /// The public half. Throws Error{Fault::system} when the key can be neither read nor made; Error{Fault::usage} when others can read it;
    /// Error{Fault::malformed} when the file holds no such key. A key that is there is never replaced.
    attest::HostKey public_key();
    /// The bundle as it leaves this host. Throws as public_key.
    std::string sign(const attest::SignedBundle& bundle);

private:
    const P384Key& key(); // with mutex_
    Path path_;
    std::mutex mutex_;
    std::optional<P384Key> key_;
};

} // namespace sev::daemon
