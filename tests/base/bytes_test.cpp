// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "base/cursor.hpp"
#include "base/wire.hpp"
#include "tests/support.hpp"

using namespace sev;

TEST_CASE("base64: the test vectors of RFC 4648 section 10, both ways") {
    for (const auto& [plain, coded] :
         {std::pair{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}}) {
        CHECK(base64(as_bytes(plain)) == coded);
        const auto decoded = try_unbase64(coded);
        REQUIRE(decoded.has_value());
        CHECK(as_text(*decoded) == plain);
    }
}

TEST_CASE("base64: white space is skipped, one value has one spelling") {
    CHECK(try_unbase64(" Zm9v\r\nYmFy\n") == try_unbase64("Zm9vYmFy"));
    for (const char* bad : {"Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zm9v=", "====", "Zg==Zg==", "Z*==", "Zg==x", "Zm8=="})
        CHECK_MESSAGE(!try_unbase64(bad), bad);
}

TEST_CASE("hex: both cases are read, lower case is written") {
    CHECK(hex(unhex<4>("DeadBEEF")) == "deadbeef");
    CHECK_FALSE(try_unhex("abc"));
    CHECK_FALSE(try_unhex("zz"));
    CHECK_THROWS_WITH_AS(unhex<16>("00", "nonce"), "nonce: 2 characters, want 32 hex digits", Error);
}

TEST_CASE("printable: what a terminal could obey is shown, not obeyed") {
    CHECK(printable("a\x1b[2Jb") == "a\\x1b[2Jb");
    CHECK(printable("tab\there") == "tab\\x09here");
    CHECK(printable("grün ✓") == "grün ✓");
    CHECK(printable("\xc2\x9b") == "\\xc2\\x9b"); // C1 control sequence introducer
    CHECK(printable("\xff\xc0\x80") == "\\xff\\xc0\\x80");
    CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80"); // a surrogate
    CHECK(printable("abcdef", 3) == "abc…");
}

TEST_CASE("wire: little-endian reading and writing are inverse") {
    ByteArray<16> raw{};
    wire::put_le32<4>(wire::span(raw), 0x01020304);
    wire::put_le64<8>(wire::span(raw), 0x1122334455667788);
    wire::put_le16<2>(wire::span(raw), 0xA1B2);
    CHECK(hex(raw) == "0000b2a1040302018877665544332211");
    CHECK(wire::le32<4>(wire::view(raw)) == 0x01020304);
    CHECK(wire::le64<8>(wire::view(raw)) == 0x1122334455667788);
    CHECK(wire::le16<2>(wire::view(raw)) == 0xA1B2);
    CHECK(wire::all_zero<0, 2>(wire::view(raw)));
    CHECK_FALSE(wire::all_zero<0, 3>(wire::view(raw)));
    CHECK_THROWS_WITH_AS(wire::exactly<12>(raw, "status"), "status: 16 bytes, want 12", Error);
}

TEST_CASE("Cursor: a short read names subject, offset, field, wanted and left") {
    const ByteArray<5> raw{1, 2, 3, 4, 5};
    Cursor cursor{raw, "table"};
    CHECK(cursor.le32("length") == 0x04030201);
    CHECK_THROWS_WITH_AS(cursor.le16("entry length"), "table: 4h entry length: 2 bytes wanted, 1 left", Error);
    CHECK_THROWS_WITH_AS(cursor.done(), "table: 4h 1 bytes left over", Error);
}

namespace {
using Key = Secret<struct KeyTag, 16>;
using Other = Secret<struct OtherTag, 16>;
} // namespace
static_assert(!std::is_copy_constructible_v<Key> && !std::is_copy_assignable_v<Key> && std::is_nothrow_move_constructible_v<Key>);
static_assert(!std::equality_comparable<Key> && !std::is_convertible_v<Key, Other> && !std::is_default_constructible_v<Key>);
static_assert(!fmt::is_formattable<Key>::value && !fmt::is_formattable<SecretBytes>::value);
static_assert(!std::is_copy_constructible_v<SecretBytes> && !std::equality_comparable<SecretBytes>);

TEST_CASE("Secret: a moved-from secret is wiped") {
    const auto bytes = test::filled<16>(0xA5);
    Key key{std::span<const std::uint8_t, 16>{bytes}};
    const Key moved{std::move(key)};
    CHECK(hex(moved.reveal()) == hex(bytes));
    CHECK(hex(key.reveal()) == hex(ByteArray<16>{})); // NOLINT(bugprone-use-after-move): that is the property
}

TEST_CASE("Secret: the bytes are gone from memory when it dies") {
    alignas(Key) std::array<unsigned char, sizeof(Key)> place{};
    const auto bytes = test::filled<16>(0xA5);
    Key* key = new (place.data()) Key{std::span<const std::uint8_t, 16>{bytes}};
    key->~Key();
    for (const volatile unsigned char& b : place) CHECK(b == 0);
}

TEST_CASE("Error: context goes in front, and the fault and hint stay") {
    try {
        within("launching domain 7", [] {
            within("LAUNCH_MEASURE", []() -> int { throw Error{Fault::firmware, "INVALID_GUEST_STATE (0x0002)", "try again"}; });
        });
        FAIL("no error");
    } catch (const Error& error) {
        CHECK(std::string{error.what()} == "launching domain 7: LAUNCH_MEASURE: INVALID_GUEST_STATE (0x0002)");
        CHECK(error.fault() == Fault::firmware);
        CHECK(error.hint() == "try again");
    }
}
