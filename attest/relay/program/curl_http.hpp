// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/relay/http.hpp"
#include "base/file.hpp"

namespace sev::relay {

/// How the network is reached.
struct Network {
    std::string proxy;    // URL; empty: none
    std::string no_proxy; // hosts that are reached without it, as in NO_PROXY
    Path ca_file;         // PEM: the certificates that servers are held against; empty: the system's
    Path certificate, key; // PEM: who we are to a server that asks (mTLS); both or neither
    std::string user_agent;
};

/// libcurl behind an interface, and the only place that includes it. TLS 1.2 or newer, verified; https alone, also after a redirect, of which at most
/// three are followed; no cookies, no credentials, no netrc, no environment; headers of at most 64 KiB.
class CurlHttp final : public Http {
public:
    explicit CurlHttp(Network network);
    CurlHttp(const CurlHttp&) = delete;
    CurlHttp& operator=(const CurlHttp&) = delete;
    ~CurlHttp() override;
    std::variant<Response, NoAnswer> get(const std::string& url, std::size_t limit_bytes, std::chrono::milliseconds timeout) override;
    std::variant<Response, NoAnswer> post(const std::string& url, ByteView body, std::size_t limit_bytes, std::chrono::milliseconds timeout) override;

private:
    Network network_;
};

} // namespace sev::relay
