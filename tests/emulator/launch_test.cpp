// SPDX-License-Identifier: Apache-2.0
#include "psp/certificate.hpp"
#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;

namespace {
constexpr ByteArray<3> naples_build{0, 17, 48};
}

TEST_CASE("a whole SEV-ES launch by raw command buffers: measurement and secret as the guest owner computes them with OpenSSL alone") {
    Host host;
    host.start();
    CHECK(host.status() == Bytes{0, 17, 1, 0, 1, 0, 0, 48, 0, 0, 0, 0});
    const std::uint32_t policy = 0x1100'0005;
    const Owner owner = Owner::make(host.certificates().pdh, policy);
    REQUIRE(host.launch_with(policy, owner.godh, owner.session) == Status::success);
    const std::uint32_t guest = host.reply_u32(0);
    CHECK(guest != 0);
    CHECK(host.status() == Bytes{0, 17, 2, 0, 1, 0, 0, 48, 1, 0, 0, 0});
    CHECK(host.guest_status(guest) == Bytes{5, 0, 0, 0x11, 0, 0, 0, 0, 1});
    REQUIRE(host.activate(guest, 3) == Status::success);
    CHECK(host.guest_status(guest) == Bytes{5, 0, 0, 0x11, 3, 0, 0, 0, 1});

    const Bytes data = pattern(0x9000 + 0x230, 1), vmsa = pattern(0x1000, 2);
    host.put(guest_at, data);
    host.put(guest_at + 0x10000, vmsa);
    REQUIRE(host.update_data(guest, guest_at, 0x2000) == Status::success); // any split gives the same digest
    REQUIRE(host.update_data(guest, guest_at + 0x2000, 0x10) == Status::success);
    REQUIRE(host.update_data(guest, guest_at + 0x2010, static_cast<std::uint32_t>(data.size()) - 0x2010) == Status::success);
    REQUIRE(host.update_vmsa(guest, guest_at + 0x10000) == Status::success);
    CHECK(host.get(guest_at, data.size()) != data);
    CHECK(host.guest_view(guest, guest_at, data.size()) == data);
    CHECK(host.guest_view(guest, guest_at + 0x10000, 0x1000) == vmsa);
    CHECK(host.guest_view(guest, guest_at + 0x1234, 77) == Bytes(data.begin() + 0x1234, data.begin() + 0x1234 + 77));

    CHECK(host.measure(guest, 0) == Status::invalid_length);
    CHECK(host.reply_u32(0x10) == 0x30);
    CHECK(host.guest_state(guest) == 1);
    REQUIRE(host.measure(guest) == Status::success);
    CHECK(host.guest_state(guest) == 2);
    const Bytes measure = host.get(blob_at, 32), mnonce = host.get(blob_at + 32, 16);
    CHECK(measure == owner.expected_measure(naples_build, policy, sha256(data + vmsa), mnonce));

    const Bytes secret = pattern(0x120, 9);
    const auto packet = owner.seal(secret, measure);
    REQUIRE(host.secret(guest, packet.header, packet.data, guest_at + 0x20000) == Status::success);
    CHECK(host.get(guest_at + 0x20000, secret.size()) != secret);
    CHECK(host.guest_view(guest, guest_at + 0x20000, secret.size()) == secret);
    const auto again = owner.seal(pattern(0x4000, 5), measure); // the largest, over the first
    REQUIRE(host.secret(guest, again.header, again.data, guest_at + 0x20000) == Status::success);
    CHECK(host.guest_view(guest, guest_at + 0x20000, 0x4000) == pattern(0x4000, 5));

    REQUIRE(host.on_guest(CommandId::launch_finish, guest) == Status::success);
    CHECK(host.guest_state(guest) == 3);
    CHECK(host.secret(guest, packet.header, packet.data, guest_at + 0x20000) == Status::invalid_guest_state);
    CHECK(host.guest_view(guest, guest_at, data.size()) == data);
    REQUIRE(host.on_guest(CommandId::deactivate, guest) == Status::success);
    REQUIRE(host.on_guest(CommandId::decommission, guest) == Status::success);
    CHECK(host.status() == Bytes{0, 17, 1, 0, 1, 0, 0, 48, 0, 0, 0, 0});
    CHECK_THROWS_WITH_AS(host.guest_view(guest, guest_at, 16), "no guest with this handle", Error);
}

TEST_CASE("LAUNCH_START: a session with any part tampered is BAD_MEASUREMENT, and no guest comes of it") {
    Host host;
    host.start();
    const std::uint32_t policy = 1;
    const Owner owner = Owner::make(host.certificates().pdh, policy);
    for (const std::size_t at : {0x00U, 0x0FU, 0x10U, 0x2FU, 0x30U, 0x3FU, 0x40U, 0x5FU, 0x60U, 0x7FU}) {
        CAPTURE(at);
        Bytes session = owner.session;
        session[at] ^= 0x40;
        CHECK(host.launch_with(policy, owner.godh, session) == Status::bad_measurement);
    }
    CHECK(host.launch_with(0, owner.godh, owner.session) == Status::bad_measurement); // another policy than the owner's
    CHECK(host.launch_with(policy, Owner::make(host.certificates().pdh, policy).godh, owner.session) == Status::bad_measurement);
    REQUIRE(host.command(CommandId::pdh_gen) == Status::success); // a session towards the old PDH
    CHECK(host.launch_with(policy, owner.godh, owner.session) == Status::bad_measurement);
    CHECK(host.guest_count() == 0);
    CHECK(host.status()[2] == 1);
}

TEST_CASE("LAUNCH_START: each bad certificate, length, address and policy alone") {
    Host host;
    host.start(false);
    const Owner owner = Owner::make(host.certificates().pdh, 0);
    const auto expect = [&](Status status, std::size_t at, std::uint32_t value) {
        CAPTURE(at);
        Bytes godh = owner.godh;
        for (std::size_t i = 0; i < 4; ++i) godh[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
        CHECK(host.launch_with(0, godh, owner.session) == status);
    };
    expect(Status::invalid_certificate, 0x00, 2);      // VERSION
    expect(Status::invalid_certificate, 0x08, 0x1002); // PEK
    expect(Status::invalid_certificate, 0x08, 0x7777);
    expect(Status::invalid_certificate, 0x0C, 2); // ECDSA
    expect(Status::invalid_certificate, 0x0C, 0x7777);
    expect(Status::invalid_certificate, 0x10, 1); // P-256
    expect(Status::invalid_certificate, 0x14, 0x01020304); // off the curve
    host.put(blob_at, owner.godh);
    host.put(blob2_at, owner.session);
    const auto start = [&](const Raw& buffer) { return host.command(CommandId::launch_start, buffer); };
    const auto good = [] { return Raw{0x24}.u64(8, blob_at).u32(0x10, 0x824).u64(0x18, blob2_at).u32(0x20, 0x80); };
    const Bytes before = host.snapshot();
    CHECK(start(good().u32(0x10, 0x823)) == Status::invalid_length);
    CHECK(start(good().u32(0x10, 0x825)) == Status::invalid_length);
    CHECK(start(good().u32(0x20, 0x7F)) == Status::invalid_length);
    CHECK(start(good().u32(0x20, 0)) == Status::invalid_length);
    CHECK(start(good().u64(8, ram_bytes)) == Status::invalid_address);
    CHECK(start(good().u64(8, ram_bytes - 0x823)) == Status::invalid_address);
    CHECK(start(good().u64(0x18, 0)) == Status::bad_measurement); // address 0 is RAM here
    CHECK(start(good().u64(0x18, 0x10'0000'0000)) == Status::invalid_address);
    CHECK(start(good().u64(0x18, 0xFFFF'FFFF'FFFF'FFF0)) == Status::invalid_address);
    CHECK(start(good().u32(0x14, 1)) == Status::invalid_param);
    CHECK(start(good().u32(0, 77)) == Status::invalid_guest);
    CHECK(start(good().u32(4, 0x40)) == Status::policy_failure);        // reserved bit
    CHECK(start(good().u32(4, 0x8000)) == Status::policy_failure);      // reserved bit
    CHECK(start(good().u32(4, 0x1200'0000)) == Status::policy_failure); // API 0.18
    CHECK(start(good().u32(4, 0x0001'0000)) == Status::policy_failure); // API 1.0
    CHECK(start(good().u32(4, 0x4)) == Status::policy_failure);         // ES, but the platform is not
    CHECK(host.snapshot() == before);
    CHECK(start(good()) == Status::success);
}

TEST_CASE("LAUNCH_SECRET: each check alone, and nothing changes") {
    Host host;
    host.start();
    const Owner owner = Owner::make(host.certificates().pdh, 0);
    REQUIRE(host.launch_with(0, owner.godh, owner.session) == Status::success);
    const std::uint32_t guest = host.reply_u32(0);
    REQUIRE(host.activate(guest, 10) == Status::success);
    REQUIRE(host.measure(guest) == Status::success);
    const Bytes measure = host.get(blob_at, 32), secret = pattern(64, 3);
    const auto packet = owner.seal(secret, measure);
    host.put(blob_at, packet.header);
    host.put(blob2_at, packet.data);
    const auto good = [&] {
        return Raw{0x34}.u32(0, guest).u64(8, blob_at).u32(0x10, 0x34).u64(0x18, guest_at).u32(0x20, 64).u64(0x28, blob2_at).u32(0x30, 64);
    };
    const auto inject = [&](const Raw& buffer) { return host.command(CommandId::launch_secret, buffer); };
    const Bytes before = host.snapshot(guest);
    for (const std::size_t at : {0x04U, 0x14U, 0x24U}) CHECK(inject(good().u32(at, 1)) == Status::invalid_param);
    CHECK(inject(good().u32(0, guest + 1)) == Status::invalid_guest);
    CHECK(inject(good().u32(0x10, 0x33)) == Status::invalid_length);
    CHECK(inject(good().u32(0x20, 48)) == Status::invalid_length);
    CHECK(inject(good().u32(0x30, 48)) == Status::invalid_length);
    CHECK(inject(good().u32(0x20, 0).u32(0x30, 0)) == Status::invalid_length);
    CHECK(inject(good().u32(0x20, 0x4010).u32(0x30, 0x4010)) == Status::invalid_length);
    CHECK(inject(good().u32(0x20, 63).u32(0x30, 63)) == Status::invalid_length);
    CHECK(inject(good().u64(8, ram_bytes)) == Status::invalid_address);
    CHECK(inject(good().u64(0x18, guest_at + 8)) == Status::invalid_address);
    CHECK(inject(good().u64(0x18, ram_bytes - 32)) == Status::invalid_address);
    CHECK(inject(good().u64(0x18, tmr_at)) == Status::invalid_address);
    CHECK(inject(good().u64(0x28, ram_bytes)) == Status::invalid_address);
    CHECK(inject(good().u32(0x20, 48).u32(0x30, 48)) == Status::bad_measurement); // both lengths are under the MAC
    CHECK(host.snapshot(guest) == before);
    for (const std::size_t bit : {0U, 1U, 31U}) { // FLAGS
        Bytes header = packet.header;
        header[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        CHECK(host.secret(guest, header, packet.data, guest_at) == (bit == 0 ? Status::unsupported : Status::invalid_param));
    }
    for (const std::size_t at : {0x04U, 0x13U, 0x14U, 0x33U}) { // IV and MAC
        Bytes header = packet.header;
        header[at] ^= 1;
        CHECK(host.secret(guest, header, packet.data, guest_at) == Status::bad_measurement);
    }
    Bytes data = packet.data;
    data[63] ^= 1;
    CHECK(host.secret(guest, packet.header, data, guest_at) == Status::bad_measurement);
    CHECK(host.get(guest_at, 64) == Bytes(64));
    CHECK(host.secret(guest, packet.header, packet.data, guest_at) == Status::success);
    CHECK(host.guest_view(guest, guest_at, 64) == secret);
}

TEST_CASE("without a session nobody can verify the measurement: TEK and TIK are drawn, and forgotten at LAUNCH_FINISH") {
    std::vector<std::string> draws;
    Options options;
    options.random = [&draws](std::span<std::uint8_t> out, std::string_view purpose) {
        draws.emplace_back(purpose);
        std::ranges::fill(out, std::uint8_t{0x5A});
    };
    Host host{"epyc-3151", options};
    host.start();
    const std::uint32_t guest = host.launch(0);
    CHECK(draws == std::vector<std::string>{"TEK", "TIK", "VEK", "VEK tweak"});
    REQUIRE(host.measure(guest) == Status::success);
    CHECK(draws.back() == "MNONCE");
    Owner owner;
    owner.tik = filled<16>(0x5A);
    CHECK(host.get(blob_at, 32) == owner.expected_measure(naples_build, 0, sha256({}), filled<16>(0x5A)));
}

TEST_CASE("ATTESTATION: a report that the exported PEK signs, in LSECRET and RUNNING alone; older firmware does not know it") {
    Host old;
    old.start();
    CHECK(old.command(CommandId::attestation, Raw{0x24}) == Status::invalid_command);

    Host host{"epyc-7003"};
    host.start();
    const std::uint32_t guest = host.launch(0);
    REQUIRE(host.activate(guest, 200) == Status::success);
    const Bytes data = pattern(0x3000, 1);
    host.put(guest_at, data);
    REQUIRE(host.update_data(guest, guest_at, 0x3000) == Status::success);
    const auto ask = [&] {
        Raw buffer = Raw{0x24}.u32(0, guest).u64(8, blob_at).u32(0x20, 0xD0);
        std::ranges::copy(filled<16>(0x77), buffer.bytes.begin() + 0x10);
        return buffer;
    };
    CHECK(host.command(CommandId::attestation, ask()) == Status::invalid_guest_state);
    REQUIRE(host.measure(guest) == Status::success);
    CHECK(host.command(CommandId::attestation, ask().u32(0x20, 0)) == Status::invalid_length);
    CHECK(host.reply_u32(0x20) == 0xD0);
    CHECK(host.command(CommandId::attestation, ask().u64(8, tmr_at)) == Status::invalid_address);
    CHECK(host.command(CommandId::attestation, ask().u32(4, 1)) == Status::invalid_param);
    for (const bool finished : {false, true}) {
        if (finished) REQUIRE(host.on_guest(CommandId::launch_finish, guest) == Status::success);
        REQUIRE(host.command(CommandId::attestation, ask()) == Status::success);
        const Bytes report = host.get(blob_at, 0xD0);
        const Digest digest = sha256(data);
        const Bytes want = Bytes(16, 0x77) + digest + Bytes{0, 0, 0, 0, 0x02, 0x10, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0};
        CHECK(Bytes(report.begin(), report.begin() + 0x40) == want);
        const auto pek = psp::parse_sev_certificate(ByteView{host.certificates().chain}.first(0x824), "PEK");
        P384Signature signature;
        std::reverse_copy(report.begin() + 0x40, report.begin() + 0x70, signature.r.begin());
        std::reverse_copy(report.begin() + 0x88, report.begin() + 0xB8, signature.s.begin());
        CHECK(ecdsa_verify(*pek.point(), sha256(ByteView{report}.first(0x34)), signature));
    }
}
