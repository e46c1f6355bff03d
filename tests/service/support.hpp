// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cerrno>
#include <cstring>
#include <thread>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/service/server.hpp"
#include "tests/support.hpp"

namespace sev::test {

using namespace std::chrono_literals;

/// What a client got: the whole text until the server closed, or until the answer was complete by its Content-Length.
struct Answer {
    unsigned status = 0;
    std::string head, body;
    bool closed = false; // the server ended the connection
    std::string header(std::string_view name) const {
        const std::size_t at = head.find("\r\n" + std::string{name} + ": ");
        if (at == std::string::npos) return {};
        const std::size_t start = at + name.size() + 4;
        return head.substr(start, head.find("\r\n", start) - start);
    }
};

/// A client that sends exactly what it is told. No call waits longer than ten seconds.
class RawClient {
public:
    explicit RawClient(const Path& path) : fd_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
        struct sockaddr_un address {};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
        if (::connect(fd_.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) != 0)
            throw Error{Fault::system, fmt::format("connect {}: {}", path.string(), std::strerror(errno))};
    }
    /// False when the other end has closed.
    bool send(std::string_view text) {
        while (!text.empty()) {
            const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }
    /// What there is within `wait`; empty at the end or when nothing came.
    std::string some(std::chrono::milliseconds wait = 10s) {
        struct pollfd entry {.fd = fd_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&entry, 1, static_cast<int>(wait.count())) != 1) return {};
        std::string out(65536, '\0');
        const ssize_t got = ::recv(fd_.get(), out.data(), out.size(), 0);
        ended_ = ended_ || got <= 0;
        out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
        return out;
    }
    /// Whether the server ends the connection within `wait`; what it says before is dropped.
    bool ends_within(std::chrono::milliseconds wait) {
        const auto until = std::chrono::steady_clock::now() + wait;
        while (!ended_ && std::chrono::steady_clock::now() < until) some(50ms);
        return ended_;
    }
    /// To HEAD: a head alone.
    Answer bare_answer() { return answer(false); }
    Answer answer(bool with_body = true) {
        Answer out;
        std::string text = std::exchange(rest_, {});
        std::size_t head_end = 0;
        while ((head_end = text.find("\r\n\r\n")) == std::string::npos) {
            const std::string more = some();
            if (more.empty()) return out;
            text += more;
        }
        out.head = text.substr(0, head_end + 2);
        out.status = static_cast<unsigned>(std::stoul(out.head.substr(9, 3)));
        const std::string length = out.header("Content-Length");
        const std::size_t want = head_end + 4 + (length.empty() || !with_body ? 0 : std::stoul(length));
        while (text.size() < want) {
            const std::string more = some();
            if (more.empty()) break;
            text += more;
        }
        out.body = text.substr(head_end + 4, want - head_end - 4);
        rest_ = text.substr(std::min(want, text.size()));
        out.closed = out.header("Connection") == "close";
        return out;
    }
    Answer ask(std::string_view text) {
        send(text);
        return answer();
    }
    int fd() const noexcept { return fd_.get(); }

private:
    Fd fd_;
    std::string rest_;
    bool ended_ = false;
};

inline std::string get(std::string_view path) { return fmt::format("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path); }
inline std::string post(std::string_view path, std::string_view body, std::string_view type = "application/json") {
    return fmt::format("POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}", path, type, body.size(), body);
}

} // namespace sev::test
