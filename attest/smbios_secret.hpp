// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string>

#include "base/secret.hpp"

namespace sev::attest {

/// One credential of the smbios channel; systemd in the guest imports it by itself (systemd.system-credentials(7)).
struct SmbiosCredential {
    std::string name; // 1 to 255 bytes of [A-Za-z0-9._-], not "." or ".."
    SecretBytes data;
};

/// Throws Error{Fault::usage} for a name that SmbiosCredential does not allow.
std::string checked_credential_name(std::string name);

/// What goes into a slot file made by `sevctl slot smbios` (measure::SmbiosSlot), in place of all of it: the same structure with a string
/// "io.systemd.credential.binary:NAME=BASE64" for each credential, and one more that fills it to exactly `slot_bytes`.
/// Throws Error{Fault::usage} for a bad or double name, no credential, more than 254, a slot of a size that no slot has, or content that does not
/// fit, with the size that would.
SecretBytes build_smbios_secret(std::span<const SmbiosCredential> credentials, std::size_t slot_bytes);

} // namespace sev::attest
