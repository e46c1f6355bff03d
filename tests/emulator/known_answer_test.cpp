// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "psp/emulator/memory_cipher.hpp"
#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;
namespace emulator = sev::psp::emulator;

namespace {

const json::Value& answers() {
    static const json::Value value = json::parse(read_text(fixture("emulator/answers.json"), 1U << 20), "answers");
    return value;
}

Bytes bytes_of(const json::Value& value, std::string_view key) {
    const auto bytes = try_unhex(value.at(std::string{key}).get<std::string>());
    REQUIRE(bytes.has_value());
    return *bytes;
}

/// Gives a chip the PDH of a known answer, through its state file.
void give_pdh(Host& host, std::string_view scalar_hex) {
    host.emulator.reset();
    const SecretBytes raw = read_secret(host.state / "state", emulator::state_limit_bytes);
    const emulator::ChipState state = emulator::parse_state(raw.reveal(), "state");
    const psp::ApiVersion api = state.chip.personality->build.api();
    emulator::PlatformKeys keys = emulator::PlatformKeys::generate(api, state.chip.cek_key());
    keys.pdh = std::make_shared<const P384Key>(P384Key::from_scalar(unhex<48>(scalar_hex)));
    keys.pdh_certificate = psp::unsigned_certificate(psp::Usage::pdh, psp::Algorithm::ecdh_sha256, api, keys.pdh->public_point());
    psp::sign(keys.pdh_certificate, 0, psp::Usage::pek, *keys.pek);
    write_file(host.state / "state", emulator::serialize_state(state.chip, &keys).reveal(), Visibility::secret, Existing::replace);
}

} // namespace

TEST_CASE("memory encryption: known answers from Python, forth and back, whole and block by block") {
    for (const auto& entry : answers().at("memory")) {
        const Bytes plain = bytes_of(entry, "plain"), want = bytes_of(entry, "cipher");
        const auto address = entry.at("address").get<std::uint64_t>();
        CAPTURE(address);
        emulator::MemoryCipher cipher{{.vek = emulator::Vek{unhex<16>(entry.at("vek").get<std::string>())},
                                       .tweak = emulator::VekTweak{unhex<16>(entry.at("tweak").get<std::string>())}}};
        Bytes work = plain, out(plain.size()), back(plain.size());
        cipher.encrypt(SystemAddress{address}, work, out);
        CHECK(out == want);
        cipher.decrypt(SystemAddress{address}, want, back);
        CHECK(back == plain);
        for (std::size_t at = 0; at < plain.size(); at += 16) {
            ByteArray<16> block{};
            cipher.decrypt(SystemAddress{address + at}, ByteView{want}.subspan(at, 16), block);
            REQUIRE(std::equal(block.begin(), block.end(), plain.begin() + static_cast<std::ptrdiff_t>(at)));
        }
    }
}

TEST_CASE("whole launches towards a known PDH: session, measurement and secret as Python computed both ends") {
    const auto all = answers();
    for (const auto& launch : all.at("launches")) {
        CAPTURE(launch.at("name").get<std::string>());
        Options options;
        const Bytes mnonce = bytes_of(launch, "mnonce");
        options.random = [&mnonce](std::span<std::uint8_t> out, std::string_view purpose) {
            if (purpose == "MNONCE")
                std::ranges::copy(mnonce, out.begin());
            else
                random_bytes(out);
        };
        Host host{"epyc-3151", options};
        give_pdh(host, launch.at("pdh_scalar").get<std::string>());
        host.emulator = Emulator::open(host.state, options);
        host.start();
        const auto policy = launch.at("policy").get<std::uint32_t>();
        const bool es = (policy & 4) != 0;
        REQUIRE(host.launch_with(policy, bytes_of(launch, "godh"), bytes_of(launch, "session")) == Status::success);
        const std::uint32_t guest = host.reply_u32(0);
        REQUIRE(host.activate(guest, es ? 1 : 9) == Status::success);
        const Bytes data = bytes_of(launch, "data");
        host.put(guest_at, data);
        REQUIRE(host.update_data(guest, guest_at, static_cast<std::uint32_t>(data.size())) == Status::success);
        host.put(guest_at + 0x8000, bytes_of(launch, "vmsa"));
        if (es) REQUIRE(host.update_vmsa(guest, guest_at + 0x8000) == Status::success);
        REQUIRE(host.measure(guest) == Status::success);
        CHECK(hex(host.get(blob_at, 32)) == launch.at("measure").get<std::string>());
        CHECK(host.get(blob_at + 32, 16) == mnonce);
        REQUIRE(host.secret(guest, bytes_of(launch, "header"), bytes_of(launch, "sealed"), guest_at + 0x10000) == Status::success);
        CHECK(host.guest_view(guest, guest_at + 0x10000, 64) == bytes_of(launch, "secret"));
    }
}

TEST_CASE("the shared session vector towards a stand-in PDH is accepted, and its TIK is the one that measures") {
    const auto session_file = vector_file("session/standin_pdh.json"), godh_file = vector_file("session/standin_pdh_godh.cert");
    const auto keys_file = vector_file("platform_keys/keys.json");
    if (!session_file || !godh_file || !keys_file) return;
    const auto vector = json::parse(read_text(*session_file, 1U << 16), "session");
    const auto scalars = json::parse(read_text(*keys_file, 1U << 16), "keys").at("private_scalars_be_hex");
    Host host;
    give_pdh(host, scalars.at("pdh").get<std::string>());
    host.emulator = Emulator::open(host.state);
    host.start();
    const auto policy = vector.at("policy").get<std::uint32_t>();
    Bytes session = bytes_of(vector.at("expected"), "session_blob_hex");
    REQUIRE(host.launch_with(policy, read_file(*godh_file, 4096), session) == Status::success);
    const std::uint32_t guest = host.reply_u32(0);
    REQUIRE(host.measure(guest) == Status::success);
    Owner owner;
    owner.tik = unhex<16>(vector.at("tik_hex").get<std::string>());
    CHECK(host.get(blob_at, 32) == owner.expected_measure({0, 17, 48}, policy, sha256({}), host.get(blob_at + 32, 16)));
    for (std::size_t at = 0; at < session.size(); ++at) {
        session[at] ^= 1;
        CHECK(host.launch_with(policy, read_file(*godh_file, 4096), session) == Status::bad_measurement);
        session[at] ^= 1;
    }
}
