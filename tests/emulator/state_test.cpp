// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;
namespace emulator = sev::psp::emulator;

namespace {

const emulator::Personality& naples() { return *emulator::find_personality("epyc-3151"); }

unsigned mode_of(const Path& path) {
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return status.st_mode & 07777;
}

void overwrite(const Path& path, ByteView bytes) { write_file(path, bytes, Visibility::secret, Existing::replace); }

/// What opening a directory answers; its state file must be as it was afterwards.
std::string refusal(const Path& state, sev::Fault fault) {
    const Bytes before = read_file(state / "state", 1U << 20);
    try {
        Emulator::open(state);
    } catch (const Error& error) {
        CHECK(error.fault() == fault);
        CHECK(read_file(state / "state", 1U << 20) == before);
        return error.what();
    }
    return "opened";
}

void sign_again(Bytes& state) {
    const Digest digest = sha256(ByteView{state}.first(state.size() - 32));
    std::ranges::copy(digest, state.end() - 32);
}

} // namespace

TEST_CASE("a new chip: directory 0700, files 0600, an identity of its own that stays") {
    TemporaryDirectory directory;
    const Path path = directory / "psp";
    CHECK_FALSE(Emulator::exists(path));
    auto made = Emulator::create(path, naples());
    CHECK(Emulator::exists(path));
    CHECK(mode_of(path) == 0700);
    CHECK(mode_of(path / "state") == 0600);
    CHECK(mode_of(path / "lock") == 0600);
    const auto identity = made->identity();
    CHECK(identity.personality == "epyc-3151");
    made.reset();
    const auto again = Emulator::open(path);
    CHECK(again->identity().chip_id == identity.chip_id);
    CHECK(again->identity().ark == identity.ark);
    CHECK(again->identity().ask == identity.ask);
    CHECK(again->identity().cek == identity.cek);
    CHECK(again->personality().name == "epyc-3151");
    const auto other = Emulator::create(directory / "other", naples());
    CHECK(other->identity().chip_id != identity.chip_id);
    CHECK(other->identity().ark.fingerprint() != identity.ark.fingerprint());
    CHECK(other->identity().cek != identity.cek);
}

TEST_CASE("create refuses what is there; open refuses what is not") {
    Host host;
    host.emulator.reset();
    CHECK_THROWS_WITH_AS(Emulator::create(host.state, naples()), doctest::Contains("holds an emulated PSP already"), Error);
    CHECK_THROWS_WITH_AS(Emulator::open(host.directory / "nothing"), doctest::Contains("no emulated PSP here"), Error);
    CHECK_THROWS_WITH_AS(Emulator::create(host.directory.path(), naples()), doctest::Contains("is not empty"), Error);
    CHECK_THROWS_WITH_AS(Emulator::create(host.directory / "no" / "parent", naples()), doctest::Contains("No such file"), Error);
    overwrite(host.directory / "file", Bytes{1});
    CHECK_THROWS_WITH_AS(Emulator::create(host.directory / "file", naples()), doctest::Contains("is not a directory"), Error);
    CHECK_THROWS_WITH_AS(Emulator::open(host.directory / "file"), doctest::Contains("no emulated PSP here"), Error);
    const Path empty = host.directory / "empty";
    std::filesystem::create_directory(empty);
    std::filesystem::permissions(empty, std::filesystem::perms{0755});
    Emulator::create(empty, naples());
    CHECK(mode_of(empty) == 0700);
}

TEST_CASE("keys that others may read are refused") {
    Host host;
    host.emulator.reset();
    std::filesystem::permissions(host.state, std::filesystem::perms{0750});
    CHECK(refusal(host.state, sev::Fault::usage).find("mode is 0750, want no access for group and others") != std::string::npos);
    std::filesystem::permissions(host.state, std::filesystem::perms{0700});
    std::filesystem::permissions(host.state / "state", std::filesystem::perms{0644});
    CHECK(refusal(host.state, sev::Fault::usage).find("mode is 0644") != std::string::npos);
}

TEST_CASE("a second opener is refused, in this process and in another, until the first is gone") {
    Host host;
    CHECK(refusal(host.state, sev::Fault::system).find("is in use by another process") != std::string::npos);
    const auto in_child = [&] {
        const pid_t child = fork();
        if (child == 0) {
            try {
                Emulator::open(host.state);
            } catch (const Error& error) {
                _exit(error.fault() == sev::Fault::system ? 7 : 8);
            }
            _exit(0);
        }
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        return WEXITSTATUS(status);
    };
    CHECK(in_child() == 7);
    host.emulator.reset();
    CHECK(in_child() == 0);
}

TEST_CASE("a state file cut to any shorter length, or with a byte more, is torn; with any bit flipped, damaged: never a new identity") {
    Host host;
    host.start(); // flash full
    host.emulator.reset();
    const Path file = host.state / "state";
    const Bytes whole = read_file(file, 1U << 20);
    CHECK(whole.size() > 8000);
    for (std::size_t length = 0; length < whole.size(); ++length) {
        try {
            emulator::parse_state(ByteView{whole}.first(length), "state");
            FAIL("a cut state was taken");
        } catch (const Error& error) {
            REQUIRE(error.fault() == sev::Fault::malformed);
            REQUIRE(std::string_view{error.what()}.find("torn") != std::string_view::npos);
        }
    }
    for (std::size_t at = 0; at < whole.size(); at += at < 64 ? 1 : 37) {
        Bytes changed = whole;
        changed[at] ^= static_cast<std::uint8_t>(1U << at % 8);
        CHECK_THROWS_AS(emulator::parse_state(changed, "state"), Error);
    }
    for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{55}, whole.size() / 2, whole.size() - 1}) {
        overwrite(file, ByteView{whole}.first(length));
        CHECK(refusal(host.state, sev::Fault::malformed).find("torn") != std::string::npos);
        CHECK_THROWS_AS(Emulator::create(host.state, naples()), Error);
    }
    overwrite(file, whole + Bytes{0});
    CHECK(refusal(host.state, sev::Fault::malformed).find("LENGTH is") != std::string::npos);
    overwrite(file, Bytes(1U << 17));
    CHECK(refusal(host.state, sev::Fault::malformed).find("more than the limit") != std::string::npos);
    overwrite(file, whole);
    host.emulator = Emulator::open(host.state);
}

TEST_CASE("foreign, newer and inconsistent state files say what is wrong") {
    Host host, other;
    host.start();
    other.start();
    host.emulator.reset();
    other.emulator.reset();
    const Path file = host.state / "state";
    const Bytes whole = read_file(file, 1U << 20), others = read_file(other.state / "state", 1U << 20);
    const auto with = [&](std::string_view expected, std::size_t at, ByteView bytes) {
        Bytes changed = whole;
        std::ranges::copy(bytes, changed.begin() + static_cast<std::ptrdiff_t>(at));
        sign_again(changed);
        overwrite(file, changed);
        const std::string got = refusal(host.state, sev::Fault::malformed);
        CHECK_MESSAGE(got.find(expected) != std::string::npos, got);
        CHECK(got.starts_with(file.string()));
    };
    with("not the state of an emulated PSP", 0, as_bytes("MZ"));
    with("10h VERSION is 2, want 1: written by a newer program", 0x10, Bytes{2});
    with("10h VERSION is 0, want 1", 0x10, Bytes{0});
    with("personality is \"epyc-9004\"", 0x18, as_bytes("epyc-9004"));
    with("personality is not a zero-padded name", 0x18 + 20, Bytes{'x'});
    with("number of sockets is 2, want 1 for epyc-3151", 0x38, Bytes{2});
    with("CEK certificate is not of this chip's secret", 0x3C + 64, Bytes{1, 2, 3, 4});
    const std::size_t keys_at = whole.size() - 32 - emulator::PlatformKeys::wire_size;
    with("flags are 0x2", keys_at, Bytes{2});
    with("an externally owned platform has an OCA key", keys_at, Bytes{1});
    with("OCA key is not the one in its certificate", keys_at + 4, ByteView{others}.subspan(keys_at + 4, 48));
    with("PEK is not the one in its certificate", keys_at + 52, ByteView{others}.subspan(keys_at + 52, 48));
    with("PDH key is not the one in its certificate", keys_at + 100, ByteView{others}.subspan(keys_at + 100, 48));
    with("OCA key", keys_at + 4, Bytes(48)); // not a scalar of the group
    with("flash is 2, want 0 (empty) or 1", keys_at - 4, Bytes{2});
    overwrite(file, whole);
    CHECK_NOTHROW(Emulator::open(host.state));
}

TEST_CASE("another chip's flash is foreign: its PEK is not signed by this chip's CEK") {
    TemporaryDirectory directory;
    auto one = Emulator::create(directory / "one", naples());
    auto two = Emulator::create(directory / "two", naples());
    one.reset();
    two.reset();
    const Bytes first = read_file(directory / "one" / "state", 1U << 20), second = read_file(directory / "two" / "state", 1U << 20);
    const auto state = emulator::parse_state(first, "one"), foreign = emulator::parse_state(second, "two");
    const auto keys = emulator::PlatformKeys::generate({0, 17}, foreign.chip.cek_key());
    overwrite(directory / "one" / "state", emulator::serialize_state(state.chip, &keys).reveal());
    CHECK(refusal(directory / "one", sev::Fault::malformed).find("PEK certificate is not signed by this chip's CEK") != std::string::npos);
}

TEST_CASE("the flash survives a power cycle and another process; what was being written when a process died is removed") {
    Host host;
    host.start();
    const auto first = host.certificates();
    REQUIRE(host.command(CommandId::pdh_gen) == Status::success);
    const auto second = host.certificates();
    CHECK(second != first);
    const std::uint32_t guest = host.launch(0);
    host.emulator->reset();
    CHECK(host.status() == Bytes{0, 17, 0, 0, 0, 0, 0, 48, 0, 0, 0, 0});
    host.start();
    CHECK(host.certificates() == second);
    CHECK(host.command(CommandId::guest_status, Raw{0x0D}.u32(0, guest)) == Status::invalid_guest);
    host.emulator.reset();
    overwrite(host.state / ".state.0123456789abcdef", pattern(100, 1));
    host.emulator = Emulator::open(host.state);
    CHECK_FALSE(std::filesystem::exists(host.state / ".state.0123456789abcdef"));
    host.start();
    CHECK(host.certificates() == second);
}

TEST_CASE("when the state cannot be written the command fails aloud, and the keys stay as they were") {
    Host host;
    host.start();
    const auto before = host.certificates();
    const Path moved = host.directory / "moved";
    std::filesystem::rename(host.state, moved); // works for root too, unlike a read-only directory
    CHECK_THROWS_AS(host.command(CommandId::pdh_gen), Error);
    CHECK_THROWS_AS(host.command(CommandId::pek_gen), Error);
    std::filesystem::rename(moved, host.state);
    CHECK(host.certificates() == before);
    REQUIRE(host.command(CommandId::pdh_gen) == Status::success);
    CHECK(host.certificates() != before);
}
