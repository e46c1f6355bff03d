// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "psp/types.hpp"

namespace sev::endorsement {

/// Where certificates are published, as patterns; options and the relay's configuration may name others. AMD's own are public key servers.
/// Source: AMD's SEV pages; virtee/sev asks the same addresses. AMD is known to publish ask_ark files of naples, rome and milan there.
struct Servers {
    std::string cek = "https://kdsintf.amd.com/cek/id/{id}";                                  // {id}: 128 lower-case hex digits of GET_ID
    std::string ca = "https://download.amd.com/developer/eula/sev/ask_ark_{product}.cert"; // {product}: naples, rome …; ASK‖ARK
    friend bool operator==(const Servers&, const Servers&) = default;
};

/// Checks one pattern: https, a host, no user name or password, no white space or control characters, at most 1024 bytes, and `placeholder` in it
/// exactly once, after the host. Throws Error{Fault::usage} that names `what`.
void check_pattern(std::string_view pattern, std::string_view placeholder, std::string_view what);

/// The addresses to ask. Throw Error{Fault::usage} as check_pattern does.
std::string cek_url(const Servers& servers, const psp::ChipId& id);
std::string ca_url(const Servers& servers, psp::Product product);

/// "host:port" of an https URL, lower case, port 443 when none is given: whom a "wait" is about.
std::string server_of(std::string_view url);

} // namespace sev::endorsement
