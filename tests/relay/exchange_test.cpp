// SPDX-License-Identifier: Apache-2.0
#include "attest/relay/exchange.hpp"

#include <deque>
#include <thread>

#include <doctest/doctest.h>
#include <unistd.h>

#include "base/error.hpp"
#include "base/file.hpp"

using namespace sev;
using namespace sev::relay;
using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

namespace {

/// An owner's service that answers what the test says, in order, and notes what it was sent.
class Owner : public Http {
public:
    std::variant<Response, NoAnswer> get(const std::string&, std::size_t, milliseconds) override {
        throw Error{Fault::bug, "an exchange never gets"};
    }
    std::variant<Response, NoAnswer> post(const std::string& url, ByteView body, std::size_t limit_bytes, milliseconds left) override {
        urls.push_back(url);
        bodies.emplace_back(body.begin(), body.end());
        limit = limit_bytes;
        timeout = left;
        CHECK(timeout > milliseconds{0});
        REQUIRE_FALSE(answers.empty());
        auto answer = answers.front();
        answers.pop_front();
        return answer;
    }
    std::deque<std::variant<Response, NoAnswer>> answers;
    std::vector<std::string> urls;
    std::vector<Bytes> bodies;
    std::size_t limit = 0;
    milliseconds timeout{0};
};

Response good(std::string_view body) {
    return {.status = 200, .body = Bytes{body.begin(), body.end()}, .retry_after = {}, .content_type = "application/jose"};
}
const NoAnswer nobody{"connection refused", {}, true, false};
const OwnerService service{.url = "https://owner.example:8443/", .deadline = milliseconds{5000}, .connect_again = milliseconds{10}};

std::string failure(Owner& owner, const OwnerService& where = service) {
    try {
        const Bytes answer = carry(owner, where, as_bytes("request"), Steady::now(), [](milliseconds) {});
        return "carried " + std::string{as_text(answer)};
    } catch (const Error& error) {
        return error.what();
    }
}

} // namespace

TEST_CASE("carry: the request goes out as it is, the answer comes back as it is") {
    Owner owner;
    owner.answers = {good("a.b.c")};
    const Bytes answer = carry(owner, service, as_bytes("request"), Steady::now(), [](milliseconds) {});
    CHECK(as_text(answer) == "a.b.c");
    CHECK(owner.urls == std::vector<std::string>{"https://owner.example:8443/v1/exchange"});
    CHECK(as_text(owner.bodies.at(0)) == "request");
    CHECK(owner.limit == exchange_answer_limit_bytes);
}

TEST_CASE("carry: without a connection it tries again, until its deadline") {
    Owner owner;
    unsigned sleeps = 0;
    owner.answers = {nobody, nobody, good("a.b.c")};
    CHECK(as_text(carry(owner, service, as_bytes("request"), Steady::now(), [&](milliseconds) { ++sleeps; })) == "a.b.c");
    CHECK(sleeps == 2);

    Owner absent;
    for (int i = 0; i < 100; ++i) absent.answers.emplace_back(nobody);
    auto hasty = service;
    hasty.deadline = milliseconds{30};
    const auto really = [](milliseconds span) { std::this_thread::sleep_for(span); };
    CHECK_THROWS_WITH_AS(carry(absent, hasty, as_bytes("request"), Steady::now(), really),
                         "https://owner.example:8443/v1/exchange: connection refused", Error);
    CHECK(absent.bodies.size() <= 4);
}

TEST_CASE("carry: the deadline counts from when the relay began, and not from when the request was there") {
    Owner owner;
    owner.answers = {good("a.b.c")};
    CHECK_THROWS_WITH_AS(carry(owner, service, as_bytes("request"), Steady::now() - service.deadline, [](milliseconds) {}),
                         "https://owner.example:8443/v1/exchange: no answer within 5000 ms", Error);
    CHECK(owner.bodies.empty());
    carry(owner, service, as_bytes("request"), Steady::now() - milliseconds{4000}, [](milliseconds) {});
    CHECK(owner.timeout <= milliseconds{1000});
}

TEST_CASE("carry: what may have arrived is never sent twice") {
    Owner owner;
    owner.answers = {NoAnswer{"the connection was reset", {}, true, true}, good("a.b.c")};
    CHECK(failure(owner) == "https://owner.example:8443/v1/exchange: the connection was reset");
    CHECK(owner.bodies.size() == 1);
}

TEST_CASE("carry: what cannot be an owner's answer is refused, each alone") {
    const auto after = [](Response response) {
        Owner owner;
        owner.answers = {std::move(response)};
        std::string out = failure(owner);
        CHECK(owner.bodies.size() == 1);
        return out;
    };
    Response page = good("<html>");
    page.content_type = "text/html";
    CHECK(after(page) == "https://owner.example:8443/v1/exchange: answered with type text/html, want application/jose");
    page.content_type = "";
    CHECK(after(page) == "https://owner.example:8443/v1/exchange: answered with type none, want application/jose");
    CHECK(after(good("")) == "https://owner.example:8443/v1/exchange: the answer is empty");
    Response elsewhere = good("a.b.c");
    elsewhere.status = 302;
    CHECK(after(elsewhere) == "https://owner.example:8443/v1/exchange: answered with status 302");
    Response denied = good("{\"title\":\"no\x1b[31m\"}");
    denied.status = 403;
    denied.content_type = "application/problem+json";
    CHECK(after(denied) == "https://owner.example:8443/v1/exchange: answered with status 403: {\"title\":\"no\\x1b[31m\"}");
}

TEST_CASE("check_owner_url: what is no plain https URL is refused") {
    CHECK_NOTHROW(check_owner_url("https://owner.example"));
    CHECK_NOTHROW(check_owner_url("https://[::1]:8443/prefix"));
    for (const char* const bad :
         {"", "http://owner.example", "https://", "https:///x", "https://:1", "https://a@owner.example", "https://owner.example/?q",
          "https://owner.example/#f", "https://owner example", "https://owner\\x", "file:///etc/passwd", "HTTPS//x"})
        CHECK_THROWS_AS(check_owner_url(bad), Error);
}

TEST_CASE("read_request: bounded in bytes and in time") {
    const auto pipe_with = [](std::string_view text, bool close_it) {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        REQUIRE(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
        if (close_it) ::close(ends[1]);
        return std::pair{Fd{ends[0]}, close_it ? Fd{} : Fd{ends[1]}};
    };
    const auto whole = pipe_with("12345678", true);
    CHECK(as_text(read_request(whole.first.get(), 8, milliseconds{5000})) == "12345678");
    const auto longer = pipe_with("123456789", true);
    CHECK_THROWS_WITH_AS(read_request(longer.first.get(), 8, milliseconds{5000}), "request: more than 8 bytes", Error);
    const auto nothing = pipe_with("", true);
    CHECK_THROWS_WITH_AS(read_request(nothing.first.get(), 8, milliseconds{5000}), "request: nothing came", Error);
    const auto endless = pipe_with("1234", false);
    CHECK_THROWS_WITH_AS(read_request(endless.first.get(), 8, milliseconds{20}), "request: 4 bytes and no end within 20 ms", Error);
}
