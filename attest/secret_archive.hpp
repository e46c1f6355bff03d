// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string>

#include "base/secret.hpp"

namespace sev::attest {

/// One file of the initrd channel.
struct SecretFile {
    std::string name; // 1 to 255 bytes of [A-Za-z0-9._-] and "/" between parts; no ".", ".." or empty part, no leading "/"
    SecretBytes data;
};

/// Throws Error{Fault::usage} for a name that SecretFile does not allow.
std::string checked_secret_file_name(std::string name);

/// A newc cpio archive of these files (mode 0400, root, time 0; missing folders 0700) and its trailer, zero-padded to a multiple of 4096 bytes: what
/// goes into the zero pages in front of a Linux ramdisk. Throws Error{Fault::usage} for a bad or double name, no file, or more than 1 MiB. Source:
/// Linux Documentation/driver-api/early-userspace/buffer-format.rst.
SecretBytes build_secret_archive(std::span<const SecretFile> files);

} // namespace sev::attest
