// SPDX-License-Identifier: Apache-2.0
#include "attest/endorsement/servers.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::endorsement {
namespace {

constexpr std::string_view scheme = "https://";
constexpr std::size_t limit_bytes = 1024;

std::string_view authority_of(std::string_view url) {
    url.remove_prefix(std::min(scheme.size(), url.size()));
    return url.substr(0, url.find_first_of("/?#"));
}

std::string filled(std::string_view pattern, std::string_view placeholder, std::string_view value, std::string_view what) {
    check_pattern(pattern, placeholder, what);
    std::string url{pattern};
    return url.replace(url.find(placeholder), placeholder.size(), value);
}

} // namespace

void check_pattern(std::string_view pattern, std::string_view placeholder, std::string_view what) {
    const auto refuse = [&](std::string_view problem) {
        throw Error{Fault::usage, fmt::format("{}: {} {}", what, pattern.empty() ? "an empty address" : printable(pattern), problem),
                    fmt::format("want something like https://server/path/{}", placeholder)};
    };
    if (pattern.size() > limit_bytes) refuse(fmt::format("has {} bytes, more than the limit of {}", pattern.size(), limit_bytes));
    if (!pattern.starts_with(scheme)) refuse("is no https address");
    if (std::ranges::any_of(pattern, [](char c) { return c <= ' ' || c > '~'; })) refuse("has white space or bytes that are not ASCII in it");
    const std::string_view authority = authority_of(pattern);
    if (authority.empty() || authority.front() == ':') refuse("names no host");
    if (authority.find('@') != std::string_view::npos) refuse("has a user name in it, which no key server asks for");
    const auto at = pattern.find(placeholder);
    if (at == std::string_view::npos || pattern.find(placeholder, at + 1) != std::string_view::npos)
        refuse(fmt::format("does not have {} in it exactly once", placeholder));
    if (at < scheme.size() + authority.size()) refuse(fmt::format("has {} in its host", placeholder));
}

std::string cek_url(const Servers& servers, const psp::ChipId& id) { return filled(servers.cek, "{id}", hex(id), "address of CEKs"); }

std::string ca_url(const Servers& servers, psp::Product product) {
    return filled(servers.ca, "{product}", psp::name(product), "address of ASK and ARK");
}

std::string server_of(std::string_view url) {
    std::string server{authority_of(url)};
    std::ranges::transform(server, server.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    const auto colon = server.rfind(':');
    const auto bracket = server.rfind(']'); // of an IPv6 address, which has colons of its own
    if (colon == std::string::npos || (bracket != std::string::npos && colon < bracket)) server += ":443";
    return server;
}

} // namespace sev::endorsement
