// SPDX-License-Identifier: Apache-2.0
#include "base/client/unix_client.hpp"

#include <atomic>
#include <thread>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.hpp"
#include "base/service/server.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t limit = 1 << 20;

/// The house's own server, real, on a socket in a temporary folder.
struct Service {
    test::TemporaryDirectory folder;
    Path socket = folder / "socket";
    service::Log log{"test", service::Sink::standard_error, service::Priority::error};
    service::EventHub hub;
    service::Server server{routes(), {}, log};
    Service() {
        server.listen(service::UnixEndpoint{.path = socket, .mode = 0600, .group = {}});
        server.start();
    }
    std::vector<service::Route> routes() {
        using namespace service;
        return {
            {.method = "GET",
             .path = "/v1/echo",
             .body_limit_bytes = 0,
             .content_type = {},
             .where = Where::io_thread,
             .admit = {},
             .handle = [](const Request& r) { return text_response(r.query.at("text")); }},
            {.method = "POST",
             .path = "/v1/echo",
             .body_limit_bytes = 64,
             .content_type = "application/json",
             .where = Where::worker,
             .admit = {},
             .handle = [](const Request& r) { return text_response(r.body); }},
            {.method = "GET",
             .path = "/v1/slow",
             .body_limit_bytes = 0,
             .content_type = {},
             .where = Where::worker,
             .admit = {},
             .handle =
                 [this](const Request&) {
                     while (!released) std::this_thread::sleep_for(1ms);
                     return text_response("late");
                 }},
            {.method = "GET",
             .path = "/v1/events",
             .body_limit_bytes = 0,
             .content_type = {},
             .where = Where::io_thread,
             .admit = {},
             .handle =
                 [this](const Request&) {
                     Response out;
                     out.content_type = "text/event-stream";
                     out.events = hub.subscribe(0);
                     return out;
                 }},
        };
    }
    std::atomic<bool> released{false};
};

/// A service that says these bytes to whoever connects, and closes.
struct Raw {
    explicit Raw(std::string text) {
        const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string path = socket.string();
        std::copy(path.begin(), path.end(), address.sun_path);
        REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(::listen(fd, 1) == 0);
        thread = std::thread{[fd, text = std::move(text)] {
            const Fd listening{fd}, one{::accept(fd, nullptr, nullptr)};
            char request[4096];
            static_cast<void>(!::read(one.get(), request, sizeof request));
            static_cast<void>(!::write(one.get(), text.data(), text.size()));
        }};
    }
    ~Raw() { thread.join(); }
    test::TemporaryDirectory folder;
    Path socket = folder / "socket";
    std::thread thread;
};

std::string failure(const Path& socket, std::chrono::milliseconds deadline = 5s) {
    try {
        return client::UnixClient{socket}.ask({.target = "/"}, 64, deadline).body;
    } catch (const Error& error) {
        return error.what();
    }
}

} // namespace

TEST_CASE("UnixClient: asks the house's server, and gets what it says") {
    Service service;
    const client::UnixClient client{service.socket};
    auto answer = client.ask({.target = "/v1/echo?text=hello"}, limit, 5s);
    CHECK(answer.status == 200);
    CHECK(answer.body == "hello");
    CHECK(answer.content_type == "text/plain");
    answer = client.ask({.method = "POST", .target = "/v1/echo", .content_type = "application/json", .body = "{\"a\":1}"}, limit, 5s);
    CHECK(answer.body == "{\"a\":1}");

    const auto absent = client::problem_of(client.ask({.target = "/v1/nothing"}, limit, 5s));
    CHECK(absent.detail.find("/v1/nothing") != std::string::npos);
    // refused before it is read, and told so although we were still sending
    answer = client.ask({.method = "POST", .target = "/v1/echo", .content_type = "application/json", .body = std::string(4 << 20, ' ')}, limit, 5s);
    CHECK(answer.status == 413);
}

TEST_CASE("UnixClient: the deadline holds over everything") {
    Service service;
    CHECK_THROWS_WITH_AS(client::UnixClient{service.socket}.ask({.target = "/v1/slow"}, limit, 50ms),
                         (service.socket.string() + ": no answer within 50 ms").c_str(), Error);
    service.released = true;
}

TEST_CASE("UnixClient: events, until the listener has enough or the deadline comes") {
    Service service;
    for (int i = 1; i <= 3; ++i) service.hub.publish("launch", "{\"n\":" + std::to_string(i) + "}");
    std::vector<client::Event> got;
    const client::UnixClient client{service.socket};
    CHECK(client.listen({.target = "/v1/events"}, 5s, [&](const client::Event& event) {
        got.push_back(event);
        return got.size() < 3;
    }));
    REQUIRE(got.size() == 3);
    CHECK(got[2].id == 3);
    CHECK(got[2].type == "launch");
    CHECK(got[2].data == "{\"n\":3}");
    CHECK_FALSE(client.listen({.target = "/v1/events"}, 100ms, [](const client::Event&) { return true; }));
    CHECK_THROWS_AS(client.listen({.target = "/v1/nothing"}, 5s, [](const client::Event&) { return true; }), Error);
}

TEST_CASE("UnixClient: what a bad service says") {
    const test::TemporaryDirectory folder;
    CHECK(failure(folder / "absent") == (folder / "absent").string() + ": nobody listens there");
    CHECK(failure(std::string(200, 'a')).find("too long for a socket's path") != std::string::npos);
    const auto after = [](std::string text) {
        Raw raw{std::move(text)};
        std::string out = failure(raw.socket);
        return out.substr(std::min(out.size(), raw.socket.string().size()));
    };
    CHECK(after("").starts_with(": no answer: "));
    CHECK(after("garbage\r\n\r\n").starts_with(": no answer: "));
    CHECK(after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").starts_with(": half an answer: "));
    CHECK(after("HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n" + std::string(65, 'x')).find("too long") != std::string::npos);
    CHECK(after("HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n").starts_with(": no answer: "));
}

TEST_CASE("EventReader: pieces of any size, comments, several data lines") {
    const std::string text = ": heartbeat\n\nid: 7\nevent: launch\ndata: a\ndata: b\n\ndata\n\nevent: nothing\n\nid: x\r\ndata: c\r\n\r\n";
    for (std::size_t step = 1; step <= text.size(); ++step) {
        client::EventReader reader;
        std::vector<client::Event> got;
        for (std::size_t at = 0; at < text.size(); at += step)
            for (auto& event : reader.feed(std::string_view{text}.substr(at, step))) got.push_back(event);
        REQUIRE(got.size() == 3);
        CHECK(got[0].id == 7);
        CHECK(got[0].data == "a\nb");
        CHECK(got[1].data == "");
        CHECK(got[2].data == "c");
        CHECK(got[2].id == 0);
    }
    client::EventReader reader;
    CHECK_THROWS_AS(reader.feed(std::string(client::EventReader::line_limit_bytes + 1, 'x')), Error);
}

TEST_CASE("problem_of: RFC 9457 for people, and nothing else believed") {
    CHECK(
        client::problem_of(
            {.status = 409, .content_type = "application/problem+json", .body = R"({"title":"Conflict","detail":"no ASID","hint":"wait","more":1})"})
            .detail == "no ASID");
    CHECK(client::problem_of({.status = 409, .content_type = "application/problem+json", .body = R"({"title":"Conflict"})"}).detail == "Conflict");
    CHECK(client::problem_of({.status = 409, .content_type = "application/problem+json", .body = "{"}).detail == "status 409");
    CHECK(client::problem_of({.status = 500, .content_type = "text/html", .body = "<p>"}).detail == "status 500");
}
