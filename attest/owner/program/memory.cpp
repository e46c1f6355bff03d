// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/program/memory.hpp"

#include "base/error.hpp"
#include "base/service/harden.hpp"

namespace sev::attest::owner {

void lock_memory(const cli::Arguments& given, const std::function<void(const std::string& problem)>& warn) {
    try {
        service::lock_all_memory();
    } catch (const Error& error) {
        if (!given.has(unlocked_option.name))
            throw Error{error.fault(), error.what(),
                        "LimitMEMLOCK=infinity in a unit, \"USER - memlock unlimited\" in /etc/security/limits.d, or --unlocked-memory"};
        warn(error.what());
    }
}

} // namespace sev::attest::owner
