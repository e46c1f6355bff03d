// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include <boost/asio/ssl/context.hpp>

#include "base/service/peer.hpp"
#include "base/service/server.hpp"

/// Inside base/service/: OpenSSL's side of a TLS 1.3 server.
namespace sev::service {

/// TLS 1.3 alone, no tickets and no resumption (so that each connection shows its certificate), a client certificate required. Throws
/// Error{Fault::system} or Error{Fault::malformed} that names the file.
std::shared_ptr<boost::asio::ssl::context> tls_context(const TlsFiles& files);
/// The client's certificate after a handshake, in which OpenSSL verified it; nullopt when there is none.
std::optional<Peer::Certificate> client_certificate(SSL* connection);
/// The last reason OpenSSL gave, for a log: "certificate required"; the queue is empty afterwards.
std::string last_tls_reason(const boost::system::error_code& error);

} // namespace sev::service
