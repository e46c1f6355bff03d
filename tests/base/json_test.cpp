// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"

#include "tests/support.hpp"

using namespace sev;

namespace {
std::string refusal(std::string_view text, json::Limits limits = {}) {
    try {
        json::parse(text, "input", limits);
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::malformed);
        return error.what();
    }
    return "accepted";
}
} // namespace

TEST_CASE("json::parse: what is refused, and why") {
    CHECK(refusal("") == "input: empty, want JSON");
    CHECK(refusal(" \n") == "input: empty, want JSON");
    CHECK(refusal("{\"a\":1,\"a\":2}") == "input: key \"a\" stands twice in one object");
    CHECK(refusal("{\"a\":1,}") == "input: not JSON at byte 8");
    CHECK(refusal("{} {}") == "input: not JSON at byte 4");
    CHECK(refusal("// comment\n{}") == "input: not JSON at byte 1");
    CHECK(refusal("[[[[1]]]]", {.depth = 3}) == "input: nested deeper than 3 levels");
    CHECK(refusal(std::string(100'000, '[')) == "input: nested deeper than 32 levels");
    CHECK(refusal("[1,2,3]", {.bytes = 6}) == "input: 7 bytes of JSON, more than the limit of 6");
    CHECK(refusal("\"\xff\"") == "input: not JSON at byte 2");
    CHECK(refusal("1e999").starts_with("input: not JSON"));
    std::string many = "{";
    for (int i = 0; i < 1100; ++i) many += fmt::format("{}\"{}\":0", i ? "," : "", i);
    CHECK(refusal(many + "}") == "input: more than 1024 keys in one object");
}

TEST_CASE("json::parse: order and nesting are kept") {
    CHECK(json::parse(R"({"b":[1,{"c":null},[]],"a":{"x":true}})", "input").dump() == R"({"b":[1,{"c":null},[]],"a":{"x":true}})");
}

TEST_CASE("json::Object: unknown keys, wrong types and ranges are refused by name") {
    const auto value =
        json::parse(R"({"name":"n","count":7,"hex":"0x1F","flag":true,"neg":-1,"frac":1.5,"list":[1],"bytes":"AQI=","extra":0})", "input");
    json::Object object{value, "policy"};
    CHECK(object.string("name") == "n");
    CHECK(object.number("count", 10) == 7);
    CHECK(object.number("hex", 100) == 31);
    CHECK(object.boolean("flag"));
    CHECK(object.array("list", 1).size() == 1);
    CHECK(object.base64("bytes", 2) == Bytes{1, 2});
    CHECK_THROWS_WITH_AS(object.number("neg", 10), "policy: neg is negative, want a whole number from 0 to 10", Error);
    CHECK_THROWS_WITH_AS(object.number("frac", 10), "policy: frac is a number with a fraction or exponent, want a whole number from 0 to 10", Error);
    CHECK_THROWS_WITH_AS(object.number("count", 6), "policy: count is 7, want 0 … 6", Error);
    CHECK_THROWS_WITH_AS(object.number("name", 6), "policy: name is no number, want a decimal or 0x… number", Error);
    CHECK_THROWS_WITH_AS(object.string("count"), "policy: count is a number, want a string", Error);
    CHECK_THROWS_WITH_AS(object.boolean("absent"), "policy: absent is missing", Error);
    CHECK_THROWS_WITH_AS(object.array("list", 0), "policy: list has 1 elements, more than the limit of 0", Error);
    CHECK_THROWS_WITH_AS(object.base64("bytes", 1), "policy: bytes has 2 bytes, more than the limit of 1", Error);
    CHECK_THROWS_WITH_AS(object.object("count"), "policy: count: is a number, want an object", Error);
    CHECK_THROWS_WITH_AS(object.done(), "policy: \"extra\" is not a key that is known here", Error);
    const json::Value built{{"signed", 5}}; // made by code, not parsed: held as a signed number
    CHECK(json::Object{built, "made"}.number("signed", 10) == 5);
    CHECK(object.number_or("absent", 3, 9) == 3);
    CHECK(object.find("extra") != nullptr);
    object.done();
}
