// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/configuration.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    try {
        const auto configuration = daemon::Configuration::parse(as_text({data, size}), "configuration");
        fuzz::expect(configuration.needs_restart(configuration).empty(), "a configuration does not differ from itself");
        fuzz::expect(configuration.socket.is_absolute() && configuration.state.is_absolute(), "paths are absolute");
        for (const auto& [name, owner] : configuration.owners) fuzz::expect(on_curve(owner.key.point), "a pinned key is a point of the curve");
    } catch (const Error&) {
        return 0;
    }
    return 0;
}
