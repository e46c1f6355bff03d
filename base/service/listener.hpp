// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/file.hpp"
#include "base/service/peer.hpp"
#include "base/service/server.hpp"

/// Inside base/service/: sockets before Asio takes them over.
namespace sev::service {

/// A listening Unix stream socket. Its mode and group are set before anybody can connect. Throws as Server::listen.
Fd listen_unix(const UnixEndpoint& endpoint);
/// Throws Error{Fault::usage} for anything but a listening Unix stream socket.
void check_inherited(const Fd& socket);
/// SO_PEERCRED. Throws Error{Fault::system}.
Peer::Process peer_process(int socket);

} // namespace sev::service
