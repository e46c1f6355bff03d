// SPDX-License-Identifier: Apache-2.0
// Command buffers: expected bytes and offsets are written by hand from the SEV API's tables (as Linux psp-sev.h has them packed).
#include "psp/command.hpp"
#include "tests/psp/test_chain.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;

namespace {

constexpr GuestHandle guest{0x04030201};

struct Where {
    Blob::Direction direction;
    std::size_t address_at, length_at, size;
    friend bool operator==(const Where&, const Where&) = default;
};
std::vector<Where> blobs(const Call& call) {
    std::vector<Where> out;
    for (const Blob& blob : call.blobs) out.push_back({blob.direction, blob.address_at, blob.length_at, blob.data.size()});
    return out;
}
constexpr auto in = Blob::Direction::in;
constexpr auto out = Blob::Direction::out;

/// A PSP that answers one status, remembers the call, and fills outputs.
class OneAnswer final : public Firmware {
public:
    explicit OneAnswer(Status status) : status_{status} {}
    Status issue(CommandId id, Call& call) override {
        seen = id;
        for (std::uint8_t& byte : call.buffer) byte = 0;
        return status_;
    }
    std::string_view backend() const noexcept override { return "test"; }
    CommandId seen{};

private:
    Status status_;
};

template <class Command>
void buffer_fits(const Command& command) {
    const CommandInfo* info = find_command(static_cast<std::uint32_t>(Command::id));
    REQUIRE(info != nullptr);
    CHECK(info->name == Command::name);
    const Call call = command.encode();
    CHECK_MESSAGE(call.buffer.size() == info->buffer_size, Command::name);
    for (const Blob& blob : call.blobs) { // the transport's fields are still zero
        for (std::size_t i = 0; i < 8; ++i) CHECK(call.buffer.at(blob.address_at + i) == 0);
        for (std::size_t i = 0; i < 4; ++i) CHECK(call.buffer.at(blob.length_at + i) == 0);
    }
}

} // namespace

TEST_CASE("commands: each buffer has the size of the API's table") {
    test::TestChain test;
    const Chain& chain = test.sign();
    buffer_fits(Init{.es = true, .tmr = SystemAddress{1U << 20}, .tmr_length_bytes = 1U << 20});
    buffer_fits(Shutdown{});
    buffer_fits(PlatformReset{});
    buffer_fits(GetPlatformStatus{});
    buffer_fits(PekGen{});
    buffer_fits(PekCsr{});
    buffer_fits(PekCertImport{.pek = *chain.pek, .oca = *chain.oca});
    buffer_fits(PdhCertExport{});
    buffer_fits(PdhGen{});
    buffer_fits(DfFlush{});
    buffer_fits(GetId{.sockets = 2});
    buffer_fits(Decommission{.guest = guest});
    buffer_fits(Activate{.guest = guest, .asid = Asid{5}});
    buffer_fits(Deactivate{.guest = guest});
    buffer_fits(GetGuestStatus{.guest = guest});
    buffer_fits(LaunchStart{.policy = Policy{5}, .share_with = {}, .godh = *chain.pdh, .session = ByteArray<0x80>{}});
    buffer_fits(LaunchUpdateData{.guest = guest, .at = SystemAddress{16}, .length_bytes = 16});
    buffer_fits(LaunchUpdateVmsa{.guest = guest, .at = SystemAddress{4096}});
    buffer_fits(LaunchMeasure{.guest = guest});
    buffer_fits(LaunchSecret{.guest = guest, .header = {}, .at = SystemAddress{16}, .data = Bytes(32)});
    buffer_fits(LaunchFinish{.guest = guest});
    buffer_fits(Attestation{.guest = guest, .mnonce = {}});
    buffer_fits(DbgDecrypt{.guest = guest, .from = {}, .to = {}, .length_bytes = 16});
    buffer_fits(DbgEncrypt{.guest = guest, .from = {}, .to = {}, .length_bytes = 16});
}

TEST_CASE("commands: fields and blobs at the API's offsets") {
    const auto buffer = [](const auto& command) { return hex(command.encode().buffer); };
    CHECK(buffer(Init{.es = true, .tmr = SystemAddress{0x11'2233'4455'6677}, .tmr_length_bytes = 0x100000}) ==
          "0100000000000000"
          "7766554433221100"
          "00001000");
    CHECK(buffer(Init{.es = false, .tmr = SystemAddress{1}, .tmr_length_bytes = 1}) == std::string(40, '0'));
    CHECK(buffer(Activate{.guest = guest, .asid = Asid{0x0A}}) == "01020304"
                                                                  "0a000000");
    CHECK(buffer(Deactivate{.guest = guest}) == "01020304");
    CHECK(buffer(GetGuestStatus{.guest = guest}) == "01020304000000000000000000");
    CHECK(buffer(LaunchUpdateData{.guest = guest, .at = SystemAddress{0x8877'6655'4433'2211}, .length_bytes = 0x40}) ==
          "0102030400000000"
          "1122334455667788"
          "40000000");
    CHECK(buffer(LaunchUpdateVmsa{.guest = guest, .at = SystemAddress{0x2000}}) == "0102030400000000"
                                                                                   "0020000000000000"
                                                                                   "00100000");
    CHECK(buffer(DbgDecrypt{.guest = guest, .from = SystemAddress{0x10}, .to = SystemAddress{0x20}, .length_bytes = 0x30}) ==
          "0102030400000000"
          "1000000000000000"
          "2000000000000000"
          "30000000");
    CHECK(buffer(LaunchStart{.policy = Policy{0x11000005}, .share_with = guest, .godh = {}, .session = {}}) ==
          "01020304"
          "05000011" +
              std::string(56, '0'));
    const Call secret = LaunchSecret{.guest = guest, .header = {}, .at = SystemAddress{0x3000}, .data = Bytes(32)}.encode();
    CHECK(hex(ByteView{secret.buffer}.subspan(0x18, 12)) == "0030000000000000"
                                                            "20000000");
    CHECK(blobs(secret) == std::vector<Where>{{in, 0x08, 0x10, 0x34}, {in, 0x28, 0x30, 32}});
    const Call attestation = Attestation{.guest = guest, .mnonce = test::filled<16>(0xCC)}.encode();
    CHECK(hex(ByteView{attestation.buffer}.subspan(0x10, 16)) == "cccccccccccccccccccccccccccccccc");
    CHECK(blobs(attestation) == std::vector<Where>{{out, 0x08, 0x20, 208}});
    CHECK(blobs(PekCsr{}.encode()) == std::vector<Where>{{out, 0x00, 0x08, 2084}});
    CHECK(blobs(PdhCertExport{}.encode()) == std::vector<Where>{{out, 0x00, 0x08, 2084}, {out, 0x10, 0x18, 6252}});
    CHECK(blobs(GetId{.sockets = 2}.encode()) == std::vector<Where>{{out, 0x00, 0x08, 128}});
    CHECK(blobs(LaunchMeasure{.guest = guest}.encode()) == std::vector<Where>{{out, 0x08, 0x10, 48}});
    test::TestChain test;
    const Chain& chain = test.sign();
    CHECK(blobs(PekCertImport{.pek = *chain.pek, .oca = *chain.oca}.encode()) == std::vector<Where>{{in, 0x00, 0x08, 2084}, {in, 0x10, 0x18, 2084}});
    const Call start = LaunchStart{.policy = {}, .share_with = {}, .godh = *chain.pdh, .session = ByteArray<0x80>{7}}.encode();
    CHECK(blobs(start) == std::vector<Where>{{in, 0x08, 0x10, 2084}, {in, 0x18, 0x20, 128}});
    CHECK(start.blobs[1].data[0] == 7);
}

TEST_CASE("commands: replies are read from what the firmware wrote, and a wrong size is refused") {
    test::TestChain test;
    const Chain& chain = test.sign();
    Call call = PdhCertExport{}.encode();
    const auto put = [](Bytes& to, std::size_t at, const auto& from) { std::ranges::copy(from, to.begin() + static_cast<std::ptrdiff_t>(at)); };
    put(call.blobs[0].data, 0, chain.pdh->serialize());
    put(call.blobs[1].data, 0, chain.pek->serialize());
    put(call.blobs[1].data, 2084, chain.oca->serialize());
    put(call.blobs[1].data, 4168, chain.cek->serialize());
    CHECK(PdhCertExport::decode(call) == PlatformCertificates{.pdh = *chain.pdh, .pek = *chain.pek, .oca = *chain.oca, .cek = *chain.cek});
    call.blobs[1].data.pop_back();
    CHECK_THROWS_WITH_AS(PdhCertExport::decode(call), "PEK, OCA and CEK certificates: 6251 bytes, want 6252", Error);

    call = GetId{.sockets = 2}.encode();
    call.blobs[0].data[64] = 9;
    CHECK(GetId::decode(call).size() == 2);
    CHECK(GetId::decode(call)[1][0] == 9);
    call.blobs[0].data.resize(65);
    CHECK_THROWS_WITH_AS(GetId::decode(call), "chip ids: 65 bytes, want 64 for each socket", Error);
    call.blobs[0].data.clear();
    CHECK_THROWS_AS(GetId::decode(call), Error);

    call = LaunchStart{}.encode();
    CHECK_THROWS_WITH_AS(LaunchStart::decode(call), "00h HANDLE is 0 after success, want a guest's", Error);
    call.buffer[0] = 3;
    CHECK(raw(LaunchStart::decode(call)) == 3);

    call = LaunchMeasure{}.encode();
    call.blobs[0].data.resize(47);
    CHECK_THROWS_AS(LaunchMeasure::decode(call), Error);
    call = Attestation{}.encode();
    CHECK_THROWS_AS(Attestation::decode(call), Error); // zeros are no report
    CHECK_THROWS_AS(PekCsr::decode(Call{}), Error);
}

TEST_CASE("commands: what cannot be said in a buffer is refused") {
    test::TestChain test;
    CHECK_THROWS_WITH_AS((LaunchStart{.policy = {}, .share_with = {}, .godh = *test.chain.pdh, .session = {}}.encode()),
                         "a guest owner certificate without a session, want both or neither", Error);
    CHECK_THROWS_AS((LaunchStart{.policy = {}, .share_with = {}, .godh = {}, .session = ByteArray<0x80>{}}.encode()), Error);
    CHECK_THROWS_WITH_AS(GetId{.sockets = 0}.encode(), "0 sockets, want 1..8", Error);
}

TEST_CASE("run and attempt: a refusal names command, status and cause, and the remedy is the hint") {
    OneAnswer firmware{Status::bad_measurement};
    CHECK(attempt(firmware, LaunchFinish{.guest = guest}).status == Status::bad_measurement);
    CHECK(firmware.seen == CommandId::launch_finish);
    try {
        run(firmware, LaunchStart{});
        FAIL("succeeded");
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::firmware);
        CHECK(std::string_view{error.what()} ==
              "LAUNCH_START: BAD_MEASUREMENT (0x000B): a MAC does not match: of the session's keys, its policy, or a packet");
        CHECK(error.hint() == find_status(0x0B)->remedy);
    }
    OneAnswer empty{Status::success};
    CHECK_THROWS_WITH_AS(run(empty, LaunchStart{}), "LAUNCH_START: 00h HANDLE is 0 after success, want a guest's", Error);
    CHECK(run(empty, LaunchFinish{.guest = guest}) == Nothing{});
}

TEST_CASE("command ids: found by number and by name of either case") {
    CHECK(all_commands().size() == 41);
    for (const CommandInfo& info : all_commands()) {
        CHECK(find_command(static_cast<std::uint32_t>(info.id)) == &info);
        CHECK(command_named(info.name) == info.id);
        CHECK(command_named(fmt::format("0x{:02X}", static_cast<std::uint32_t>(info.id))) == info.id);
    }
    CHECK(command_named("launch_start") == CommandId::launch_start);
    CHECK(command_named("48") == CommandId::launch_start);
    CHECK(find_command(0x26) == nullptr);
    for (const auto* bad : {"", "LAUNCH", "0x26", "0x100000030", "LAUNCH_START "}) CHECK_FALSE(command_named(bad).has_value());
}
