// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <optional>

#include <sys/socket.h>

#include "base/file.hpp"

namespace sev::psp::emulator {

/// One packet of a Unix SOCK_SEQPACKET socket, with the descriptor that came along, if one did. More than one are closed again.
struct Packet {
    Bytes bytes;
    Fd descriptor;
};
enum class Received { packet, closed, late };

/// Waits for a packet of at most `limit_bytes`; a longer one counts as closed. No deadline: waits for ever.
Received receive_packet(const Fd& socket, std::size_t limit_bytes, std::optional<std::chrono::milliseconds> deadline, Packet& out);
/// False when the other end is gone or does not take it in time. Never raises SIGPIPE, whatever flags the other end set on a shared descriptor.
bool send_packet(const Fd& socket, ByteView bytes, std::chrono::milliseconds deadline);

/// A listening Unix socket, mode 0600. A socket file that nobody answers is replaced. Throws Error{Fault::usage} when somebody answers,
/// when `path` is no socket, or longer than a socket's address can be (107 bytes); Error{Fault::system} otherwise.
Fd listen_on(const Path& path, int type = SOCK_SEQPACKET);

/// Whether the process at the other end runs as this user or as root.
bool peer_is_ours(const Fd& socket);
/// Whether a descriptor from outside is a Unix packet socket.
bool is_packet_socket(const Fd& descriptor);

} // namespace sev::psp::emulator
