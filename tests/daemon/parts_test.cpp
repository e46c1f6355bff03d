// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include "launch/daemon/host_key.hpp"
#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::PspHealth;
using daemon::PspQueue;

namespace {

/// Answers each command with what it is told.
struct ScriptedFirmware final : psp::Firmware {
    psp::Status issue(psp::CommandId, psp::Call&) override {
        ++issued;
        if (fault) throw Error{*fault, "scripted"};
        return status;
    }
    std::string_view backend() const noexcept override { return "emulated"; }
    std::atomic<unsigned> issued = 0;
    psp::Status status = psp::Status::success;
    std::optional<Fault> fault;
};

} // namespace

TEST_CASE("host key: made once, for its user alone; what others could read, and what is no key, is refused and left alone") {
    TemporaryDirectory directory;
    const Path file = directory / "host.key";
    const attest::HostKey key = daemon::HostKeyFile{directory.path()}.public_key();
    struct stat status {};
    REQUIRE(::stat(file.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    CHECK(daemon::HostKeyFile{directory.path()}.public_key() == key);
    attest::SignedBundle bundle{
        .launch = 3, .state = "running", .collector = "sevd", .created_at = {}, .measured_at = {}, .collected_at = {}, .bundle = {}};
    bundle.bundle = attest::read_message<attest::Bundle>(read_text(fixture("attest/bundle.json"), 1U << 20), "bundle");
    CHECK(attest::open_signed_bundle(daemon::HostKeyFile{directory.path()}.sign(bundle), key, "bundle") == bundle);
    REQUIRE(::chmod(file.c_str(), 0640) == 0);
    CHECK(error_of([&] { daemon::HostKeyFile{directory.path()}.public_key(); }).find("its owner alone can read") != std::string::npos);
    REQUIRE(::chmod(file.c_str(), 0600) == 0);
    write_file(file, as_bytes("no key"), Visibility::secret, Existing::replace);
    CHECK(error_of([&] { daemon::HostKeyFile{directory.path()}.public_key(); }).find("host.key") != std::string::npos);
    CHECK(read_text(file, 100) == "no key");
    std::filesystem::remove(file);
    std::filesystem::create_symlink("elsewhere", file);
    CHECK(error_of([&] { daemon::HostKeyFile{directory.path()}.sign(bundle); }).find("its owner alone can read") != std::string::npos);
    CHECK(error_of([&] { daemon::HostKeyFile{directory / "absent"}.public_key(); }).find("absent") != std::string::npos);
}

TEST_CASE("PSP queue: a command without an answer fails alone, those behind it at once, and the next one when it is over") {
    DaemonHost host;
    PspQueue queue{host.firmware, 200ms};
    host.firmware->hold(psp::CommandId::pdh_gen);
    std::string behind;
    std::thread second;
    const auto begun = std::chrono::steady_clock::now();
    std::thread first{[&] { CHECK(error_of([&] { psp::run(queue, psp::PdhGen{}); }) == "PDH_GEN: no answer within 200 ms"); }};
    REQUIRE(host.firmware->wait_until_held());
    second = std::thread{[&] { behind = error_of([&] { psp::run(queue, psp::GetPlatformStatus{}); }); }};
    first.join();
    second.join();
    CHECK(behind.find("PLATFORM_STATUS: the PSP does not answer: PDH_GEN has had no answer") == 0);
    CHECK(std::chrono::steady_clock::now() - begun < 1s);
    CHECK(queue.health().state == PspHealth::State::silent);
    CHECK(queue.health().detail.find("PDH_GEN") == 0);
    CHECK(queue.counts().commands == 0);
    host.firmware->let_go();
    for (int i = 0; i < 200 && queue.health().state != PspHealth::State::answering; ++i) std::this_thread::sleep_for(10ms);
    CHECK(queue.health().state == PspHealth::State::answering);
    CHECK(psp::run(queue, psp::GetPlatformStatus{}).guest_count == 0);
}

TEST_CASE("PSP queue: a guest that was started after everybody had given up is told to whoever cleans up") {
    DaemonHost host;
    PspQueue queue{host.firmware, 150ms};
    const launch::InitialisedPlatform platform{queue, host.space};
    std::atomic<std::uint32_t> orphan = 0;
    queue.on_orphan([&](psp::GuestHandle handle) { orphan = psp::raw(handle); });
    host.firmware->hold(psp::CommandId::launch_start);
    CHECK_THROWS_AS(psp::run(queue, psp::LaunchStart{.policy = psp::Policy{0}, .share_with = {}, .godh = std::nullopt, .session = std::nullopt}),
                    Error);
    host.firmware->let_go();
    for (int i = 0; i < 200 && orphan == 0; ++i) std::this_thread::sleep_for(10ms);
    CHECK(psp::run(queue, psp::GetGuestStatus{.guest = psp::GuestHandle{orphan.load()}}).state == psp::GuestState::launch_update);
    psp::run(queue, psp::Decommission{.guest = psp::GuestHandle{orphan.load()}});
}

TEST_CASE("PSP queue: a command that was given up still has the guest's memory, which everybody else let go of meanwhile") {
    DaemonHost host;
    host.initialise();
    const auto guest =
        psp::run(host.direct, psp::LaunchStart{.policy = psp::Policy{0}, .share_with = {}, .godh = std::nullopt, .session = std::nullopt});
    psp::run(host.direct, psp::Activate{.guest = guest, .asid = psp::Asid{15}});
    constexpr std::uint32_t length = 64U << 20; // far more than any machine hashes and encrypts in the deadline
    auto pages = host.space.allocate(length);
    const psp::SystemAddress at = pages->at();
    PspQueue queue{host.firmware, 3ms};
    const std::string said = error_of([&] { psp::run(queue, psp::LaunchUpdateData{.guest = guest, .at = at, .length_bytes = length}); });
    pages.reset();
    CHECK(said == "LAUNCH_UPDATE_DATA: no answer within 3 ms");
    for (int i = 0; i < 3000 && queue.health().state != PspHealth::State::answering; ++i) std::this_thread::sleep_for(10ms);
    CHECK(queue.health().state == PspHealth::State::answering);
    CHECK(queue.counts().commands == 1);
    CHECK(queue.counts().refused == 0);
    CHECK(host.space.at(at, 1).empty());
    psp::run(host.direct, psp::Deactivate{.guest = guest});
    psp::run(host.direct, psp::Decommission{.guest = guest});
}

TEST_CASE("PSP queue: HWERROR is failing until a command succeeds; a command that the transport lacks says nothing of the PSP") {
    auto firmware = std::make_shared<ScriptedFirmware>();
    PspQueue queue{firmware, 1s};
    firmware->status = psp::Status::hwerror_unsafe;
    CHECK_THROWS_AS(psp::run(queue, psp::Shutdown{}), Error);
    CHECK(queue.health().state == PspHealth::State::failing);
    CHECK(queue.health().detail == "SHUTDOWN: HWERROR_UNSAFE (0x0014)");
    firmware->status = psp::Status::success;
    psp::run(queue, psp::Shutdown{});
    CHECK(queue.health().state == PspHealth::State::answering);
    firmware->fault = Fault::usage;
    CHECK_THROWS_AS(psp::run(queue, psp::Shutdown{}), Error);
    CHECK(queue.health().state == PspHealth::State::answering);
    firmware->fault = Fault::firmware;
    CHECK_THROWS_AS(psp::run(queue, psp::Shutdown{}), Error);
    CHECK(queue.health().state == PspHealth::State::silent);
    CHECK(queue.counts().unanswered == 1);
}

TEST_CASE("owner's HTTP answers: only a whole 200 of application/jose is one") {
    using daemon::read_http_answer;
    CHECK(read_http_answer("HTTP/1.1 200 OK\r\nContent-Type: application/jose\r\nContent-Length: 5\r\n\r\na.b.c") == "a.b.c");
    CHECK(read_http_answer("HTTP/1.1 200 OK\r\nContent-Type: application/jose; x=y\r\n\r\na.b.c") == "a.b.c");
    CHECK(read_http_answer("HTTP/1.1 200 OK\r\nContent-Type: application/jose\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na.b.c\r\n0\r\n\r\n") ==
          "a.b.c");
    const auto refused = [](std::string_view text) { return error_of([&] { static_cast<void>(read_http_answer(text)); }); };
    CHECK(refused("") != "nothing was thrown");
    CHECK(refused("HTTP/1.1 200 OK\r\nContent-Type: application/jose\r\nContent-Length: 6\r\n\r\na.b.c").find("no whole HTTP answer") !=
          std::string::npos);
    CHECK(refused("HTTP/1.1 200 OK\r\nContent-Type: application/jose\r\nContent-Length: 4\r\n\r\na.b.c").find("goes on") != std::string::npos);
    CHECK(refused("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\nx").find("is of type text/html") != std::string::npos);
    CHECK(refused("HTTP/1.1 403 F\r\nContent-Type: application/problem+json\r\nContent-Length: 20\r\n\r\n{\"detail\":\"not you\"}") ==
          "HTTP status 403: not you");
    CHECK(refused("HTTP/1.1 500 F\r\nContent-Type: application/problem+json\r\nContent-Length: 3\r\n\r\n{{{") == "HTTP status 500");
    CHECK(refused("SSH-2.0-OpenSSH\r\n").find("no whole HTTP answer") != std::string::npos);
}

TEST_CASE("ASIDs: set aside, adopted, given back and restored ones are counted as what they are") {
    launch::AsidPool pool{{.max = 5, .min_sev = 3}};
    auto firmware = std::make_shared<ScriptedFirmware>();
    CHECK(pool.count(false).dirty + pool.count(true).dirty == 5); // nobody says what used them before
    pool.set_aside(psp::Asid{4});
    pool.adopt(psp::Asid{5});
    pool.set_aside(psp::Asid{77}); // of another platform: no effect
    CHECK(pool.count(false).retired == 1);
    CHECK(pool.count(false).in_use() == 1);
    CHECK(pool.take(false, *firmware) == psp::Asid{3});
    CHECK(firmware->issued == 1); // DF_FLUSH came before
    CHECK_FALSE(pool.take(false, *firmware).has_value());
    CHECK(firmware->issued == 1); // nothing is dirty, so nothing is flushed
    pool.give_back(psp::Asid{3});
    CHECK(pool.count(false).clean == 1);
    pool.restore(psp::Asid{4});
    pool.restore(psp::Asid{4});
    CHECK(pool.count(false).dirty == 1);
    CHECK(pool.take(false, *firmware) == psp::Asid{3});
    CHECK(pool.take(false, *firmware) == psp::Asid{4});
    CHECK(firmware->issued == 2);
    CHECK(pool.count(true).clean == 2);
}
