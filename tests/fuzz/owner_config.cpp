// SPDX-License-Identifier: Apache-2.0
// sev-owner's own files: configuration, seal keys, audit records.
#include "attest/owner/audit.hpp"
#include "attest/owner/config.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    using namespace sev::attest;
    const std::string_view text = as_text({data, size});
    try {
        const auto config = owner::OwnerConfig::parse(text, "config", "/etc/xen-sev");
        fuzz::expect(config == owner::OwnerConfig::parse(text, "config", "/etc/xen-sev"), "a configuration reads the same twice");
        fuzz::expect(!config.clients.may_ask("none"), "nobody without a channel is let in");
        fuzz::expect(config.limits.sessions.total > 0 && config.limits.burst >= 1, "limits let somebody work");
        fuzz::expect(config.key.is_absolute() && config.seal_keys.is_absolute(), "paths are absolute");
    } catch (const Error&) {
    }
    try {
        const auto keys = owner::SealKeys::parse(as_bytes(text), "keys");
        const auto again = owner::SealKeys::parse(keys.serialize().reveal(), "keys");
        fuzz::expect(again.current() == keys.current() && again.size() == keys.size(), "seal keys are the same after writing and reading");
    } catch (const Error&) {
    }
    try {
        owner::AuditVerifier verifier{OwnerKey{}, std::nullopt};
        verifier.add({.seq = 1, .text = std::string{text}});
    } catch (const Error&) {
    }
    return 0;
}
