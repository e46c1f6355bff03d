// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"

namespace sev::client {

/// What a service answered, whatever its status.
struct Answer {
    unsigned status = 0;
    std::string content_type; // lower case, without parameters
    std::string body;
};

/// One question.
struct Question {
    std::string method = "GET";
    std::string target; // "/v1/launches"
    std::string content_type{}; // of the body; empty: no body
    std::string body{};
    std::vector<std::pair<std::string, std::string>> headers{};
};

/// One server-sent event.
struct Event {
    std::uint64_t id = 0;
    std::string type, data;
};

/// HTTP/1.1 to a service on a Unix socket: one connection a question, one deadline over all of it. Stateless but for the path.
class UnixClient {
public:
    explicit UnixClient(Path socket) : socket_{std::move(socket)} {}
    const Path& socket() const noexcept { return socket_; }
    /// Throws Error{Fault::network} "<socket>: …" when nobody listens (Fault::system when we may not), when there is no whole answer before the
    /// deadline, and for more than `limit_bytes` of body.
    Answer ask(const Question& question, std::size_t limit_bytes, std::chrono::milliseconds deadline) const;
    /// What to do when the service has no place for another listener (503): as with any other refusal, or return false for someone who can also ask
    /// now and then.
    enum class NoPlace { refuse, return_false };
    /// Listens to an event stream until `take` returns false (returns true), the service ends it, or `deadline` passes (both return false). Throws as
    /// `ask`; Error{Fault::network} for an answer that is no event stream, with what it says.
    bool listen(const Question& question, std::chrono::milliseconds deadline, const std::function<bool(const Event&)>& take,
                NoPlace no_place = NoPlace::refuse) const;

private:
    Path socket_;
};

/// Reads text/event-stream piece by piece. Lines of at most `line_limit_bytes`; comments are skipped. Source: WHATWG HTML, 9.2.6.
class EventReader {
public:
    static constexpr std::size_t line_limit_bytes = 1024 * 1024;
    /// The events that became whole with this piece. Throws Error{Fault::malformed} for a longer line.
    std::vector<Event> feed(std::string_view piece);

private:
    void line(std::string_view text, std::vector<Event>& out);
    std::string partial_;
    Event current_;
    bool has_data_ = false;
};

/// The text of a problem (RFC 9457) for people: "detail" and "hint" of its JSON, or the status alone. One line, printable.
struct Problem {
    std::string detail, hint;
};
Problem problem_of(const Answer& answer);

} // namespace sev::client
