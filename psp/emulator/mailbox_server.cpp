// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/mailbox_server.hpp"

#include <cerrno>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "psp/emulator/packet_socket.hpp"

namespace sev::psp::emulator {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned rounds_limit = 64; // of reading from one machine before others are looked after

bool send_frame(const Fd& socket, const MailboxFrame& frame, std::chrono::milliseconds deadline) {
    return send_packet(socket, frame.serialize(), deadline);
}

} // namespace

/// A connection, with what has come of its next frame.
struct MailboxServer::Client {
    Client(Fd its_socket, Emulator& emulator, const MailboxServerOptions& options)
        : socket{std::move(its_socket)}, session{emulator, options}, owes_since{Clock::now()} {}

    /// A frame that is late, or a hello that does not come.
    bool overdue(std::chrono::milliseconds deadline) const {
        return (have > 0 || !session.greeted()) && Clock::now() - owes_since > deadline;
    }

    Fd socket;
    MailboxSession session;
    ByteArray<MailboxFrame::wire_size> input{};
    std::size_t have = 0;
    Clock::time_point owes_since;
};

MailboxServer::MailboxServer(Emulator& emulator, MailboxServerOptions options)
    : emulator_{emulator}, options_{std::move(options)}, listener_{listen_on(options_.socket, SOCK_STREAM)} {}

MailboxServer::~MailboxServer() { ::unlink(options_.socket.c_str()); }

void MailboxServer::accept_one() {
    Fd socket{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!socket) return;
    if (!peer_is_ours(socket)) {
        options_.log("another user tried to connect, and was turned away");
        return;
    }
    attend_all();
    if (client_) {
        options_.log("a second machine tried to connect, and was turned away");
        static_cast<void>(
            send_frame(socket, {.kind = MailboxFrame::Kind::refused, .number = MailboxFrame::Refusal::busy}, std::chrono::milliseconds{0}));
        return;
    }
    client_ = std::make_unique<Client>(std::move(socket), emulator_, options_);
}

bool MailboxServer::attend(Client& client) {
    const ssize_t got = ::recv(client.socket.get(), client.input.data() + client.have, client.input.size() - client.have, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (got <= 0) {
        options_.log(client.have > 0 ? "the machine is gone, in the middle of a frame" : "the machine is gone");
        return false;
    }
    if (client.have == 0) client.owes_since = Clock::now();
    client.have += static_cast<std::size_t>(got);
    if (client.have < client.input.size()) return true;
    client.have = 0;
    try {
        const auto reply = client.session.answer(MailboxFrame::parse(wire::view(client.input)));
        if (reply && !send_frame(client.socket, *reply, options_.message_deadline)) {
            options_.log("the machine did not take an answer, and was cut off");
            return false;
        }
        return client.session.greeted();
    } catch (const Error& error) {
        options_.log(fmt::format("a machine was cut off: {}", error.what()));
        return false;
    }
}

/// All that has come, so that a machine which is gone has left its place before the next one asks for it.
void MailboxServer::attend_all() {
    for (unsigned rounds = 0; client_ && rounds < rounds_limit; ++rounds) {
        struct pollfd entry {.fd = client_->socket.get(), .events = POLLIN, .revents = 0};
        if (::poll(&entry, 1, 0) <= 0) return;
        if (!attend(*client_)) client_.reset();
    }
}

void MailboxServer::serve(int stop_fd) {
    for (;;) {
        std::array<struct pollfd, 3> entries{{{.fd = stop_fd, .events = POLLIN, .revents = 0},
                                              {.fd = listener_.get(), .events = POLLIN, .revents = 0},
                                              {.fd = client_ ? client_->socket.get() : -1, .events = POLLIN, .revents = 0}}};
        const int ready = ::poll(entries.data(), entries.size(), 200);
        if (ready < 0 && errno != EINTR) throw Error{sev::Fault::system, "poll failed"};
        if (ready > 0 && entries[0].revents != 0) break;
        if (ready > 0 && entries[2].revents != 0) attend_all();
        if (client_ && client_->overdue(options_.message_deadline)) {
            options_.log("a machine did not finish what it had to say, and was cut off");
            client_.reset();
        }
        if (ready > 0 && entries[1].revents != 0) accept_one();
    }
    client_.reset();
}

} // namespace sev::psp::emulator
