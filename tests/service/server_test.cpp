// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include "tests/service/support.hpp"

using namespace sev;
using namespace sev::service;
using namespace sev::test;

namespace {

/// A server on a Unix socket with one route of each sort.
struct Fixture {
    explicit Fixture(Limits limits = quick()) : server{routes(), limits, log} {
        server.listen(UnixEndpoint{.path = socket, .mode = 0600, .group = std::nullopt});
        server.start();
    }
    static Limits quick() {
        Limits limits;
        limits.header_deadline = limits.body_deadline = limits.write_deadline = 400ms;
        limits.idle_deadline = 600ms;
        limits.heartbeat = 100ms;
        return limits;
    }
    std::vector<Route> routes() {
        return {
            {.method = "GET",
             .path = "/v1/thing/{id}",
             .body_limit_bytes = 0,
             .content_type = "",
             .where = Where::io_thread,
             .admit = {},
             .handle =
                 [](const Request& r) {
                     return json_response(
                         {{"id", r.parameters.at("id")}, {"peer", r.peer.channel()}, {"q", r.query.contains("q") ? r.query.at("q") : ""}});
                 }},
            {.method = "POST",
             .path = "/v1/echo",
             .body_limit_bytes = 1000,
             .content_type = "application/json",
             .where = Where::worker,
             .admit = {},
             .handle =
                 [this](const Request& r) {
                     ++handled;
                     return text_response(r.body);
                 }},
            {.method = "POST",
             .path = "/v1/secret",
             .body_limit_bytes = 1000,
             .content_type = "application/json",
             .where = Where::worker,
             .admit = [](const Peer&) { return std::optional{problem(403, "not you")}; },
             .handle =
                 [this](const Request&) {
                     ++handled;
                     return text_response("?");
                 }},
            {.method = "GET",
             .path = "/v1/slow",
             .body_limit_bytes = 0,
             .content_type = "",
             .where = Where::worker,
             .admit = {},
             .handle =
                 [this](const Request&) {
                     ++handled;
                     std::this_thread::sleep_for(300ms);
                     return text_response("slow");
                 }},
            {.method = "POST",
             .path = "/v1/apart",
             .body_limit_bytes = 1000,
             .content_type = "application/json",
             .where = Where::worker_apart,
             .admit = {},
             .handle = [](const Request& r) { return text_response(r.body); }},
            {.method = "GET",
             .path = "/v1/held",
             .body_limit_bytes = 0,
             .content_type = "",
             .where = Where::worker,
             .admit = {},
             .handle =
                 [this](const Request&) {
                     ++handled;
                     let_go.wait(false);
                     return text_response("held");
                 }},
            {.method = "GET",
             .path = "/v1/fails",
             .body_limit_bytes = 0,
             .content_type = "",
             .where = Where::worker,
             .admit = {},
             .handle = [](const Request& r) -> Response {
                 if (r.query.contains("bug")) throw std::runtime_error{"inner detail"};
                 throw Error{Fault::firmware, "LAUNCH_START: HWERROR", "power cycle"};
             }},
            {.method = "GET",
             .path = "/v1/events",
             .body_limit_bytes = 0,
             .content_type = "",
             .where = Where::io_thread,
             .admit = {},
             .handle =
                 [this](const Request&) {
                     Response r;
                     r.events = hub.subscribe();
                     return r;
                 }},
            {.method = "GET",
             .path = "/v1/large",
             .body_limit_bytes = 0,
             .content_type = "",
             .where = Where::io_thread,
             .admit = {},
             .handle = [](const Request&) { return text_response(std::string(std::size_t{8} << 20, 'x')); }},
        };
    }
    RawClient client() const { return RawClient{socket}; }

    TemporaryDirectory directory;
    Path socket = directory / "s";
    Log log{"test", Sink::standard_error, Priority::error};
    EventHub hub;
    std::atomic<unsigned> handled = 0;
    std::atomic<bool> let_go = false;
    Server server;
};

} // namespace

TEST_CASE("server: an answer names the peer that the kernel proved, and the connection stays for the next request") {
    Fixture f;
    auto client = f.client();
    for (int i = 0; i < 3; ++i) {
        const Answer answer = client.ask(get(fmt::format("/v1/thing/{}?q=a%20b", i)));
        CHECK(answer.status == 200);
        CHECK(answer.header("Content-Type") == "application/json");
        CHECK(answer.body == fmt::format("{{\"id\":\"{}\",\"peer\":\"uid:{}\",\"q\":\"a b\"}}\n", i, ::getuid()));
        CHECK_FALSE(answer.closed);
    }
    CHECK(f.server.counters().accepted == 1);
    CHECK(f.server.counters().requests == 3);
    client.send("HEAD /v1/thing/1 HTTP/1.1\r\nHost: x\r\n\r\n");
    const Answer head = client.bare_answer();
    CHECK(head.status == 200);
    CHECK(head.header("Content-Length") == client.ask(get("/v1/thing/1")).header("Content-Length")); // the length of the body that is left out
}

TEST_CASE("server: the socket has its mode, and goes with the server") {
    TemporaryDirectory directory;
    Log log{"test", Sink::standard_error, Priority::error};
    const Path path = directory / "s";
    struct stat status {};
    {
        Server server{{}, {}, log};
        server.listen(UnixEndpoint{.path = path, .mode = 0620, .group = ::getgid()});
        REQUIRE(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0620);
        Server second{{}, {}, log};
        CHECK_THROWS_WITH_AS(second.listen(UnixEndpoint{.path = path, .mode = 0600, .group = std::nullopt}),
                             doctest::Contains("somebody else is listening there"), Error);
        CHECK_THROWS_WITH_AS(second.listen(UnixEndpoint{.path = directory / std::string(120, 'x'), .mode = 0600, .group = std::nullopt}),
                             doctest::Contains("want 1 to 107"), Error);
        write_file(directory / "file", as_bytes("x"), Visibility::readable, Existing::refuse);
        CHECK_THROWS_WITH_AS(second.listen(UnixEndpoint{.path = directory / "file", .mode = 0600, .group = std::nullopt}),
                             doctest::Contains("exists and is no socket"), Error);
    }
    CHECK(::stat(path.c_str(), &status) != 0);
}

TEST_CASE("server: a socket from systemd is taken when it is one, and refused when not") {
    TemporaryDirectory directory;
    Log log{"test", Sink::standard_error, Priority::error};
    Fd listening{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_un address {};
    address.sun_family = AF_UNIX;
    const std::string path = directory / "s";
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(listening.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) == 0);
    Server server{{{.method = "GET",
                    .path = "/",
                    .body_limit_bytes = 0,
                    .content_type = "",
                    .where = Where::io_thread,
                    .admit = {},
                    .handle = [](const Request&) { return text_response("root"); }}},
                  {},
                  log};
    CHECK_THROWS_WITH_AS(server.listen(InheritedEndpoint{Fd{::dup(listening.get())}}), doctest::Contains("is no listening Unix stream socket"),
                         Error);
    CHECK_THROWS_AS(server.listen(InheritedEndpoint{Fd{::dup(0)}}), Error);
    REQUIRE(::listen(listening.get(), 8) == 0);
    server.listen(InheritedEndpoint{std::move(listening)});
    server.start();
    CHECK(RawClient{path}.ask(get("/")).body == "root");
    CHECK(server.drain(1s));
    CHECK(std::filesystem::exists(path)); // systemd's, not ours to remove
}

TEST_CASE("server: what is asked wrongly is refused with a problem that says what was wrong") {
    Fixture f;
    struct Bad {
        std::string request;
        unsigned status;
        std::string detail;
    };
    const std::vector<Bad> cases{
        {get("/nothing"), 404, "there is no /nothing"},
        {get("/v1/../v1/thing/1"), 400, "is not one that can be asked for here"},
        {get("/v1/thing/%2e%2e"), 400, "is not one that can be asked for here"},
        {get("//v1/thing/1"), 400, "is not one that can be asked for here"},
        {get("/v1/thing/1?a=1&a=2"), 400, "each name once"},
        {get("/v1/thing/" + std::string(3000, 'a')), 400, "request target of"},
        {"DELETE /v1/thing/1 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "DELETE is not possible"},
        {"GET /v1/thing/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 413, "without a body"},
        {"POST /v1/echo HTTP/1.1\r\nHost: x\r\n\r\n", 411, "want a body"},
        {post("/v1/echo", "{}", "text/plain"), 415, "want application/json"},
        {post("/v1/secret", "{}"), 403, "not you"},
        {"NONSENSE\r\n\r\n", 400, "no HTTP request"},
        {"GET /v1/thing/1 HTTP/2.0\r\n\r\n", 505, "HTTP/1.1"},
        {"GET / HTTP/1.1\r\nX: " + std::string(20000, 'y') + "\r\n\r\n", 431, "more than 16384 bytes"},
        {"POST /v1/echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, "no HTTP request"},
        {"POST /v1/echo HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", 400, "no HTTP request"},
        {get("/v1/fails"), 502, "LAUNCH_START: HWERROR"},
    };
    for (const Bad& bad : cases) {
        CAPTURE(bad.request.substr(0, 60));
        auto client = f.client();
        const Answer answer = client.ask(bad.request);
        CHECK(answer.status == bad.status);
        CHECK(answer.header("Content-Type") == "application/problem+json");
        const auto value = json::parse(answer.body, "problem");
        CHECK(value.at("status") == bad.status);
        CHECK(value.at("title") == reason_phrase(bad.status));
        CHECK(value.at("detail").get<std::string>().find(bad.detail) != std::string::npos);
    }
    CHECK(f.handled == 0);
    auto client = f.client();
    const Answer bug = client.ask(get("/v1/fails?bug=1"));
    CHECK(bug.status == 500);
    CHECK(bug.body.find("inner detail") == std::string::npos);
    CHECK(json::parse(client.ask(get("/v1/fails")).body, "problem").at("hint") == "power cycle");
}

TEST_CASE("server: bodies are taken whole, up to the route's limit, in both forms") {
    Fixture f;
    auto client = f.client();
    CHECK(client.ask(post("/v1/echo", std::string(1000, 'b'))).body == std::string(1000, 'b'));
    CHECK(client
              .ask("POST /v1/echo HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: "
                   "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
              .body == "abcde");
    CHECK(client.ask(post("/v1/echo", "")).status == 200);
    client.send("POST /v1/echo HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    CHECK(client.answer().status == 100);
    CHECK(client.ask("{}").body == "{}");
    CHECK(f.handled == 4);
}

TEST_CASE("server: a body over the limit is refused before it is read") {
    Fixture f;
    {
        auto client = f.client();
        const Answer answer = client.ask("POST /v1/echo HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 10737418240\r\n\r\n");
        CHECK(answer.status == 413);
        CHECK(answer.body.find("body of 10737418240 bytes, want at most 1000") != std::string::npos);
        CHECK(answer.closed);
    }
    {
        auto client = f.client();
        const Answer answer =
            client.ask("POST /v1/echo HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n");
        CHECK(answer.status == 413); // and no 100 Continue before
    }
    for (const std::string& chunks : {std::string{"280000000\r\nxxx"}, "3e9\r\n" + std::string(1001, 'x') + "\r\n0\r\n\r\n",
                                      "1f4\r\n" + std::string(500, 'x') + "\r\n1f5\r\n" + std::string(501, 'x') + "\r\n0\r\n\r\n"}) {
        auto client = f.client();
        const Answer answer = client.ask("POST /v1/echo HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks);
        CHECK(answer.status == 413);
    }
    CHECK(f.handled == 0);
    // A client that goes on sending is cut off after a moment, not read to its end.
    auto client = f.client();
    client.send("POST /v1/echo HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 10737418240\r\n\r\n");
    const std::string block(65536, 'z');
    std::size_t sent = 0;
    while (sent < (std::size_t{64} << 20) && client.send(block)) sent += block.size();
    CHECK(sent < (std::size_t{4} << 20));
}

TEST_CASE("server: silence, slow headers and slow bodies end at their deadlines") {
    Fixture f;
    const auto begun = std::chrono::steady_clock::now();
    auto silent = f.client();
    CHECK(silent.ends_within(2s));
    CHECK(std::chrono::steady_clock::now() - begun >= 350ms);

    // A byte now and then does not put the deadline off.
    auto slow = f.client();
    std::thread drip{[&] {
        for (int i = 0; i < 30 && slow.send("G"); ++i) std::this_thread::sleep_for(50ms);
    }};
    CHECK(slow.ends_within(1s));
    drip.join();

    auto slow_body = f.client();
    slow_body.send("POST /v1/echo HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n");
    std::thread drip_body{[&] {
        for (int i = 0; i < 30 && slow_body.send("x"); ++i) std::this_thread::sleep_for(50ms);
    }};
    CHECK(slow_body.ends_within(1s));
    drip_body.join();
    CHECK(f.handled == 0);

    auto idle = f.client();
    CHECK(idle.ask(get("/v1/thing/1")).status == 200);
    CHECK_FALSE(idle.ends_within(400ms)); // the idle deadline is longer than that of a header
    CHECK(idle.ends_within(2s));

    auto deaf = f.client(); // asks for 8 MiB and does not read them
    deaf.send(get("/v1/large"));
    std::this_thread::sleep_for(800ms);
    std::size_t got = 0;
    for (std::string part = deaf.some(); !part.empty(); part = deaf.some()) got += part.size();
    CHECK(got < (std::size_t{8} << 20));
    CHECK(f.server.counters().deadlines >= 4);
    CHECK(f.client().ask(get("/v1/thing/1")).status == 200);
}

TEST_CASE("server: who sends ahead is answered once") {
    Fixture f;
    auto client = f.client();
    const Answer answer = client.ask(get("/v1/thing/1") + get("/v1/thing/2"));
    CHECK(answer.status == 200);
    CHECK(answer.closed);
    CHECK(client.answer().status == 0);
}

TEST_CASE("server: clients that say nothing keep nobody out, and those at work are not pushed out") {
    Limits limits = Fixture::quick();
    limits.header_deadline = 30s;
    limits.connections = 8;
    limits.connections_per_peer = 8;
    Fixture f{limits};
    std::vector<std::unique_ptr<RawClient>> silent;
    for (int i = 0; i < 100; ++i) silent.push_back(std::make_unique<RawClient>(f.socket));
    CHECK(f.client().ask(get("/v1/thing/1")).status == 200);
    CHECK(f.server.counters().evicted >= 93);
    CHECK(f.server.counters().open <= 8);

    std::vector<std::unique_ptr<RawClient>> busy;
    for (int i = 0; i < 8; ++i) {
        busy.push_back(std::make_unique<RawClient>(f.socket));
        busy.back()->send(get("/v1/slow"));
    }
    while (f.handled < 1) std::this_thread::sleep_for(5ms);
    std::this_thread::sleep_for(100ms); // all eight headers are read by now
    const Answer refused = f.client().answer();
    CHECK(refused.status == 503);
    CHECK(json::parse(refused.body, "problem").at("status") == 503);
    for (const auto& client : busy) CHECK(client->answer().body == "slow");
}

TEST_CASE("server: what has workers apart is answered while the others are all busy, with more waiting for them") {
    Limits limits = Fixture::quick();
    limits.workers = 2;
    Fixture fixture{limits};
    std::vector<RawClient> waiting;
    for (int i = 0; i < 6; ++i) {
        waiting.push_back(fixture.client());
        waiting.back().send(get("/v1/held"));
    }
    for (int i = 0; i < 200 && fixture.handled < 2; ++i) std::this_thread::sleep_for(10ms);
    CHECK(fixture.handled == 2);
    auto client = fixture.client();
    CHECK(client.ask(post("/v1/apart", "{}")).status == 200);
    CHECK(fixture.handled == 2); // nobody was let go meanwhile
    fixture.let_go = true;
    fixture.let_go.notify_all();
    for (auto& each : waiting) CHECK(each.answer().status == 200);
}

TEST_CASE("server: event streams deliver live, show life, and end with the server") {
    Fixture f;
    auto client = f.client();
    client.send(get("/v1/events"));
    std::string text;
    const auto until = [&](std::string_view wanted) {
        for (int i = 0; i < 100 && text.find(wanted) == std::string::npos; ++i) text += client.some(100ms);
        return text.find(wanted) != std::string::npos;
    };
    CHECK(until(": here\n\n"));
    CHECK(text.find("Content-Type: text/event-stream\r\n") != std::string::npos);
    f.hub.publish("launch", R"({"id":1})");
    CHECK(until("id: 1\nevent: launch\ndata: {\"id\":1}\n\n"));
    CHECK(until(": still here\n\n"));
    CHECK(f.server.counters().streams == 1);
    CHECK(f.server.drain(2s));
    CHECK(until("0\r\n\r\n"));
    CHECK(client.ends_within(1s));
}

TEST_CASE("server: streams are counted, and a listener that left is forgotten") {
    Limits limits = Fixture::quick();
    limits.streams = 2;
    Fixture f{limits};
    {
        auto one = f.client(), two = f.client();
        one.send(get("/v1/events"));
        two.send(get("/v1/events"));
        CHECK_FALSE(one.some().empty());
        CHECK_FALSE(two.some().empty());
        CHECK(f.client().ask(get("/v1/events")).status == 503);
    }
    for (int i = 0; i < 100 && f.server.counters().streams > 0; ++i) std::this_thread::sleep_for(20ms); // the heartbeat notices
    CHECK(f.server.counters().streams == 0);
    CHECK(f.hub.listeners() == 0);
}

TEST_CASE("server: draining waits for what is at work and takes nothing new") {
    Fixture f;
    auto working = f.client(), idle = f.client();
    CHECK(idle.ask(get("/v1/thing/1")).status == 200);
    working.send(get("/v1/slow"));
    while (f.handled < 1) std::this_thread::sleep_for(5ms);
    CHECK(f.server.alive(1s));
    CHECK(f.server.drain(5s));
    CHECK(working.answer().body == "slow");
    CHECK(idle.ends_within(1s));
    CHECK_THROWS_AS(f.client(), Error);
}

TEST_CASE("server: draining without patience ends all the same") {
    Fixture f;
    auto working = f.client();
    working.send(get("/v1/slow"));
    while (f.handled < 1) std::this_thread::sleep_for(5ms);
    CHECK_FALSE(f.server.drain(1ms));
    CHECK(working.ends_within(1s));
}
