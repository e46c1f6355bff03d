// SPDX-License-Identifier: Apache-2.0
// Lines for eyes, and words that were meant. Expected texts were written by hand.
#include "console/layout.hpp"
#include "console/near.hpp"

#include <doctest/doctest.h>

using namespace sev::cli;

namespace {

const std::string seventy(70, 'a');

} // namespace

TEST_CASE("wrap: a line holds 80 columns and no more, and a word that is longer stays whole") {
    CHECK(wrap("", 4, 0).empty());
    CHECK(wrap("one  two\nthree", 4, 0) == "one two three");
    CHECK(wrap(seventy + " 123456789", 2, 0) == seventy + " 123456789"); // 80
    CHECK(wrap(seventy + " 1234567890", 2, 0) == seventy + "\n  1234567890");
    CHECK(wrap("x " + std::string(100, 'b') + " y", 3, 0) == "x\n   " + std::string(100, 'b') + "\n   y");
    CHECK(wrap("12345 6", 0, 74) == "12345\n6");
}

TEST_CASE("wrap: a character of several bytes is one column") {
    std::string wide;
    for (int i = 0; i < 70; ++i) wide += "é";
    CHECK(wrap(wide + " 123456789", 2, 0) == wide + " 123456789");
}

TEST_CASE("fit: what is narrow stays as it is, down to its blanks") {
    for (const std::string text : {"", "\n", "a   b\n\n  c", "no newline at the end"}) CHECK(fit(text) == text);
    CHECK(fit(std::string(90, 'x') + "\n") == std::string(90, 'x') + "\n"); // nothing to break
}

TEST_CASE("fit: a table's last column hangs under itself, any other line four blanks in") {
    CHECK(fit("root        " + seventy + " b c\n") == "root        " + seventy + "\n            b c\n");
    CHECK(fit("note: " + seventy + " more words\nnext\n") == "note: " + seventy + "\n    more words\nnext\n");
    CHECK(fit("  note: " + seventy + " more words") == "  note: " + seventy + "\n      more words");
}

TEST_CASE("near_matches: few letters away, whatever their case, or a part that was remembered") {
    const std::vector<std::string> known{"bios-smee", "bios-snp", "BAD_MEASUREMENT", "launch.digest", "chain.pek.curve", "chain.pek.slots"};
    const auto first = [&](std::string_view word) {
        const auto found = near_matches(word, known);
        return found.empty() ? std::string{} : found.front();
    };
    CHECK(first("bios-sme") == "bios-smee");
    CHECK(first("bad_measurment") == "BAD_MEASUREMENT");
    CHECK(first("digest") == "launch.digest");
    CHECK(first("chain.pek.curv") == "chain.pek.curve");
    CHECK(first("nothing like it").empty());
    CHECK(first("").empty());
    CHECK(first("b").empty());
    CHECK(first(std::string(101, 'b')).empty());
    CHECK(near_matches("chain.pek", known) == std::vector<std::string>{"chain.pek.curve", "chain.pek.slots"});
    CHECK(near_matches("bios", {"bios-a", "bios-b", "bios-c", "bios-d", "bios-a"}) == std::vector<std::string>{"bios-a", "bios-b", "bios-c"});
}
