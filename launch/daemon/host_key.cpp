// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/host_key.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.hpp"

namespace sev::daemon {
namespace {

constexpr std::size_t limit_bytes = 16 * 1024;

} // namespace

const P384Key& HostKeyFile::key() {
    if (key_) return *key_;
    const std::string what = printable(path_.string(), 1024);
    struct stat status {};
    if (::lstat(path_.c_str(), &status) != 0) {
        write_file(path_, P384Key::generate().to_der().reveal(), Visibility::secret, Existing::refuse);
    } else if (!S_ISREG(status.st_mode) || (status.st_mode & 0077) != 0 || status.st_uid != ::geteuid()) {
        throw Error{Fault::usage,
                    fmt::format("{}: is no file that its owner alone can read (mode {:06o}, owner {})", what, status.st_mode, status.st_uid),
                    "chown it to sevd's user and chmod 0600; if others could read it, move it away, and have the new key pinned"};
    }
    return key_.emplace(P384Key::from_der(read_secret(path_, limit_bytes).reveal(), what));
}

attest::HostKey HostKeyFile::public_key() {
    const std::scoped_lock lock{mutex_};
    return {key().public_point()};
}

std::string HostKeyFile::sign(const attest::SignedBundle& bundle) {
    const std::string payload = bundle.to_json().dump();
    const std::scoped_lock lock{mutex_};
    const P384Key& signer = key();
    std::string input = attest::jws_signing_input({signer.public_point()}, attest::SignedBundle::jws_type, payload);
    const P384Signature signature = signer.sign(sha384(as_bytes(input)));
    return attest::with_signature(std::move(input), signature);
}

} // namespace sev::daemon
