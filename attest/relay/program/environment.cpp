// SPDX-License-Identifier: Apache-2.0
#include "attest/relay/program/environment.hpp"

#include <cmath>
#include <cstdlib>

#include <unistd.h>

namespace sev::relay {
namespace {

constexpr const char* default_configuration = "/etc/xen-sev/relay.json";

std::string environment(std::initializer_list<const char*> names) {
    for (const char* const name : names)
        if (const char* const value = std::getenv(name); value && *value) return value;
    return {};
}

/// What the environment says, below the configuration file and the options. No other file of the relay reads it.
Configuration from_environment() {
    Configuration out;
    out.network.proxy = environment({"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"});
    out.network.no_proxy = environment({"no_proxy", "NO_PROXY"});
    out.network.ca_file = environment({"SSL_CERT_FILE"});
    out.network.user_agent = "sev-relay/" XEN_SEV_VERSION;
    return out;
}

} // namespace

Milliseconds milliseconds(double seconds) { return Milliseconds{std::llround(seconds * 1000)}; }

Configuration read_configuration(const cli::Arguments& given) {
    Configuration out = from_environment();
    if (given.has("--config") || std::filesystem::exists(default_configuration))
        out.read(given.has("--config") ? given.text("--config") : default_configuration);
    if (given.has("--proxy")) out.network.proxy = given.text("--proxy") == "none" ? "" : given.text("--proxy");
    return out;
}

Path default_cache() { return endorsement::default_directory(::geteuid() == 0, environment({"XDG_CACHE_HOME"}), environment({"HOME"})); }

} // namespace sev::relay
