// SPDX-License-Identifier: Apache-2.0
#include "attest/smbios_secret.hpp"
#include "base/crypto.hpp"
#include "base/json.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::attest;

namespace {

json::Value answers() { return json::parse(read_text(test::fixture("slot/answers.json"), 1U << 20), "answers"); }
Bytes key(std::size_t size = 32) {
    Bytes out(size);
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::uint8_t>(i);
    return out;
}
std::vector<SmbiosCredential> one(std::string name, const Bytes& data) {
    std::vector<SmbiosCredential> out;
    out.push_back({.name = std::move(name), .data = SecretBytes{data}});
    return out;
}

} // namespace

TEST_CASE("smbios secret: known structures, made by tests/fixtures/slot/make.py") {
    CHECK(hex(build_smbios_secret(one("disk.key", key()), 128).reveal()) == answers().at("one").get<std::string>());
    auto two = one("disk.key", key());
    two.push_back({.name = "token", .data = SecretBytes{as_bytes("t")}});
    CHECK(hex(sha256(build_smbios_secret(two, 256).reveal())) == answers().at("two_256").get<std::string>());
}

TEST_CASE("smbios secret: fills its slot exactly, also when 0, 1 or 2 bytes are left over") {
    for (const char* const rest : {"rest_0", "rest_1", "rest_2"}) {
        const json::Value want = answers().at(rest);
        CHECK(hex(build_smbios_secret(one(want.at("name").get<std::string>(), key()), 128).reveal()) == want.at("file").get<std::string>());
    }
    const std::string longer = answers().at("rest_0").at("name").get<std::string>() + "n";
    CHECK_THROWS_WITH_AS(build_smbios_secret(one(longer, key()), 128), "SMBIOS secret: needs a slot of 144 bytes, and this one has 128", Error);
    CHECK(build_smbios_secret(one(longer, key()), 144).size() == 144);
    for (std::size_t size = 1; size < 100; ++size) { // every way in which base64 can end
        const SecretBytes made = build_smbios_secret(one("x", key(size)), 256);
        const std::string_view text = as_text(made.reveal());
        CHECK(text.substr(9, 31) == "io.systemd.credential.binary:x=");
        CHECK(text.substr(40, text.find('\0', 40) - 40) == base64(key(size)));
        CHECK(text.substr(254) == std::string_view{"\0\0", 2});
        CHECK(text.find(std::string_view{"\0\0", 2}, 9) == 254); // the set of strings ends there and not before
    }
}

TEST_CASE("smbios secret: refusals") {
    CHECK_THROWS_WITH_AS(build_smbios_secret({}, 128), "SMBIOS secret: no credential, want at least one", Error);
    CHECK_THROWS_AS(build_smbios_secret(one("disk.key", key()), 120), Error);
    CHECK_THROWS_AS(build_smbios_secret(one("disk.key", key()), 0x8010), Error);
    auto twice = one("a", key(4));
    twice.push_back({.name = "a", .data = SecretBytes{key(4)}});
    CHECK_THROWS_WITH_AS(build_smbios_secret(twice, 256), "SMBIOS secret: credential \"a\" stands twice", Error);
    for (const char* const bad : {"", ".", "..", "a/b", "a b", "a=b", "a\n", "\xC3\xA9"}) CHECK_THROWS_AS(checked_credential_name(bad), Error);
    CHECK_THROWS_AS(checked_credential_name(std::string(256, 'a')), Error);
    CHECK(checked_credential_name("cryptsetup.passphrase_1-x") == "cryptsetup.passphrase_1-x");
}
