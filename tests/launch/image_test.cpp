// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include <openssl/evp.h>

#include "tests/launch/support.hpp"

using namespace sev;
using namespace sev::launch;
using test::Host;

namespace {

constexpr std::uint32_t es_policy = psp::Policy::nodbg | psp::Policy::noks | psp::Policy::es | psp::Policy::nosend;

void put(const Path& path, std::string_view content) { write_file(path, as_bytes(content), Visibility::readable, Existing::replace); }

/// 8 KiB that end in OVMF's table with the SEV-ES reset block: footer GUID, then the entry (u32 0x0080B004). Offsets as the table's definition has
/// them.
Bytes firmware_image() {
    Bytes image(8192);
    for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<std::uint8_t>(i * 31 + i / 256);
    const auto table = unhex<40>("04b08000" "1600" "de71f7007e1acb4f890e68c77e2fb44e" "2800" "de82b596b21ff745baeaa366c55a082d");
    std::ranges::copy(table, image.end() - 0x20 - static_cast<std::ptrdiff_t>(table.size()));
    return image;
}

constexpr std::string_view layout_text = R"({"format":"xen-sev/image-layout","version":1,
 "parts":[{"label":"initrd","gpa":"0x10000000","file":"initrd","length":"0x2000"},{"label":"firmware","gpa":"0xffffe000","file":"firmware"}],
 "slots":[{"name":"initrd","gpa":"0x10000000","length":4096},{"name":"efi","gpa":"0x810000","length":3072}],
 "vcpus":2,"vmsa_profile":"kvm-legacy","cpu":"EPYC"})";

struct TestGuest {
    explicit TestGuest(Host& host, std::string_view text = layout_text)
        : image{(write(host, text), ImageLayout::load(host.directory / "guest.json")), host.space} {}
    static void write(Host& host, std::string_view text) {
        Bytes initrd(5000);
        for (std::size_t i = 4096; i < initrd.size(); ++i) initrd[i] = static_cast<std::uint8_t>(i * 13 + 5);
        write_file(host.directory / "initrd", initrd, Visibility::readable, Existing::replace);
        write_file(host.directory / "firmware", firmware_image(), Visibility::readable, Existing::replace);
        put(host.directory / "guest.json", text);
    }
    ImageGuest image;
};

std::string refusal(std::string_view text) {
    try {
        ImageLayout::from_json(json::parse(text, "layout"), "layout", "/nowhere");
    } catch (const Error& error) {
        return error.what();
    }
    return "accepted";
}

std::string part(std::string_view more) {
    return fmt::format(R"({{"format":"xen-sev/image-layout","version":1,"parts":[{{"label":"a","gpa":0,"file":"f"{}}}]}})", more);
}

/// An owner's policy for this host's chip and that guest's files.
std::string owner_policy(const Host& host) {
    return fmt::format(
        R"({{"format":"xen-sev/owner-policy","version":1,"owner":"test","validity":{{"not_before":"2020-01-01T00:00:00Z","not_after":"2030-01-01T00:00:00Z"}},
 "roots":{{"amd":[],"other":[{{"label":"test emulator","product":"naples","emulated":true,"fingerprint":"{}"}}]}},
 "chips":[{{"label":"chip","cek":"{}"}}],"minimum_build":"0.17.22","accept_unproven_build":false,
 "guest_policy":{{"required":["NODBG","NOKS","ES","NOSEND"],"forbidden":[]}},"level":0,"evidence":["measurement"],
 "references":[{{"name":"guest","image":{{"parts":[{{"label":"initrd","gpa":"0x10000000","file":"initrd","length":"0x2000"}},{{"label":"firmware","file":"firmware"}}],
   "vcpus":2,"vmsa_profile":"kvm-legacy","cpu":"EPYC"}}}}],
 "secrets":[{{"name":"disk key","file_name":"luks-key","path":"luks-key","when":{{"references":["guest"],"es":true}}}}],"accepted_advisories":[]}})",
        hex(host.emulator->identity().ark.fingerprint()), hex(host.emulator->identity().cek.fingerprint()));
}

attest::Time now() { return attest::parse_time("2026-06-01T00:00:00Z", "now"); }

} // namespace

TEST_CASE("image layout: what is refused, and why") {
    CHECK(refusal(R"({"format":"xen-sev/image-layout","version":1,"parts":[]})") ==
          "layout: parts is empty: a launch that measures nothing proves nothing");
    CHECK(refusal(part(R"(,"extra":1)")) == "layout: parts[0]: \"extra\" is not a key that is known here");
    CHECK(refusal(part(R"(,"length":24)")) == "layout: parts[0]: length is 24, want a multiple of 16 above 0");
    CHECK(refusal(R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":8,"file":"f"}]})") ==
          "layout: parts[0]: gpa is 0x8, want a multiple of 16");
    CHECK(refusal(R"({"format":"xen-sev/image-layout","version":2,"parts":[]})").find("version") != std::string::npos);
    CHECK(refusal(R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":0,"file":"f"}],"vcpus":-1})") ==
          "layout: vcpus is negative, want a whole number from 0 to 4096");
    CHECK(refusal(R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":0,"file":"f"}],"vcpus":1})") ==
          "layout: vmsa_profile is missing");
    CHECK(
        refusal(
            R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":0,"file":"f"}],"slots":[{"name":"x","gpa":0,"length":16},{"name":"x","gpa":0,"length":16}]})") ==
        "layout: slots has the name \"x\" twice");
    CHECK(refusal(part("")) == "accepted");
}

TEST_CASE("image guest: overlapping parts, half slots, empty and oversized files are refused") {
    Host host;
    const auto build = [&](std::string_view text) {
        try {
            TestGuest guest{host, text};
        } catch (const Error& error) {
            return std::string{error.what()};
        }
        return std::string{"accepted"};
    };
    put(host.directory / "empty", "");
    CHECK(build(layout_text) == "accepted");
    CHECK(
        build(
            R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":0,"file":"initrd"},{"label":"b","gpa":4096,"file":"initrd"}]})")
            .ends_with("overlaps the part at 0x0"));
    CHECK(build(R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":0,"file":"empty"}]})")
              .ends_with("empty, want at least 1 byte"));
    CHECK(build(R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":0,"file":"initrd","length":4096}]})")
              .ends_with("5000 bytes, more than 4096"));
    CHECK(
        build(
            R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":4096,"file":"initrd"}],"slots":[{"name":"s","gpa":4080,"length":32}]})")
            .starts_with("slot s: lies half inside"));
    CHECK(
        build(
            R"({"format":"xen-sev/image-layout","version":1,"parts":[{"label":"a","gpa":0,"file":"initrd"}],"vcpus":2,"vmsa_profile":"kvm-legacy","cpu":"EPYC"})") !=
        "accepted"); // no reset block for the AP
}

TEST_CASE("image guest: what the PSP measures is the files' bytes, zero-padded, then the VMSAs") {
    Host host{"epyc-7003"}; // ATTESTATION came after Naples' 0.17
    TestGuest guest{host};
    const auto created = test::session_for(host, es_policy);
    GuestLaunch launched{host.firmware, host.asids, guest.image, created.offer, host.status().build, EvidenceKind::report, test::ignore};

    // SHA-256 by OpenSSL alone, over the files as they are on disk
    Bytes expected = read_file(host.directory / "initrd", 1 << 20);
    expected.resize(0x2000);
    const Bytes firmware = read_file(host.directory / "firmware", 1 << 20);
    expected.insert(expected.end(), firmware.begin(), firmware.end());
    for (const unsigned vcpu : {0U, 1U}) {
        const auto page = measure::build_vmsa(measure::vmsa_profile("kvm-legacy"), vcpu,
                                              {.signature = measure::CpuSignature{0x00800F12}, .sev_features = 0, .ap_reset_address = 0x0080B004});
        expected.insert(expected.end(), page.begin(), page.end());
    }
    Digest digest{};
    REQUIRE(EVP_Digest(expected.data(), expected.size(), digest.data(), nullptr, EVP_sha256(), nullptr) == 1);
    CHECK(hex(std::get<psp::AttestationReport>(launched.evidence().proof).launch_digest) == hex(digest));
    CHECK(launched.evidence().descriptor->regions.size() == 4);
    std::move(launched).destroy(test::ignore);
    CHECK(host.status().guest_count == 0);
}

TEST_CASE("image guest: the host sees ciphertext from LAUNCH_UPDATE_DATA on") {
    Host host;
    TestGuest guest{host};
    const auto created = test::session_for(host, es_policy);
    Bytes before(8192), after(8192);
    guest.image.read_as_host(psp::Gpa{0xFFFFE000}, before);
    const GuestLaunch launched{host.firmware, host.asids, guest.image, created.offer, host.status().build, EvidenceKind::measurement, test::ignore};
    guest.image.read_as_host(psp::Gpa{0xFFFFE000}, after);
    CHECK(before == firmware_image());
    std::size_t same = 0;
    for (std::size_t i = 0; i < before.size(); i += 16)
        same += std::equal(before.begin() + static_cast<std::ptrdiff_t>(i), before.begin() + static_cast<std::ptrdiff_t>(i) + 16,
                           after.begin() + static_cast<std::ptrdiff_t>(i));
    CHECK(same == 0);
    CHECK_THROWS_AS(guest.image.read_as_host(psp::Gpa{0xFFFFE010}, after), Error); // 16 bytes beyond the end
}

TEST_CASE("a whole launch: trusted, the secret goes in, and a tampered one gets none") {
    Host host;
    TestGuest guest{host};
    constexpr std::string_view secret = "correct horse battery staple";
    put(host.directory / "luks-key", secret);
    const auto policy = attest::OwnerPolicy::parse(owner_policy(host), "policy", host.directory.path());
    const auto references = attest::resolve_references(policy);
    const auto platform = platform_evidence(host.firmware, host.endorsement(), 0);
    const auto platform_verdict = attest::judge_platform(policy, platform, now());
    for (const auto& check : platform_verdict.checks) CHECK_MESSAGE(check.passed, check.check << ": " << check.detail);
    REQUIRE(platform_verdict.accepted());
    CHECK(platform_verdict.emulated);

    SUBCASE("as the owner knows it") {
        auto created = attest::create_session(*platform_verdict.pdh, policy.session_policy(), "test");
        GuestLaunch launched{host.firmware, host.asids, guest.image, created.offer, platform.build(), EvidenceKind::measurement, test::ignore};
        const auto handle = launched.handle();
        const auto judgement =
            attest::judge(std::move(created.session), platform, launched.evidence(), {.policy = policy, .references = references}, now());
        for (const auto& check : judgement.verdict.checks) CHECK_MESSAGE(check.passed, check.check << ": " << check.detail);
        REQUIRE(judgement.trusted.has_value());
        const auto packets = attest::release_secrets(*judgement.trusted, policy);
        REQUIRE(packets.size() == 1);
        CHECK(as_text(packets[0].data).find(secret) == std::string_view::npos);
        Running running = std::move(launched).release(packets, test::ignore);

        Bytes host_view(4096), guest_view(4096);
        guest.image.read_as_host(psp::Gpa{0x10000000}, host_view);
        host.emulator->read_as_guest(handle, guest.image.locate(psp::Gpa{0x10000000}, 4096)[0].at, guest_view, host.space);
        CHECK(as_text(host_view).find(secret) == std::string_view::npos);
        CHECK(as_text(guest_view).find(secret) != std::string_view::npos);
        CHECK(as_text(guest_view).starts_with("070701"));
        std::move(running).destroy();
        CHECK(host.status().guest_count == 0);
    }
    SUBCASE("with one bit of the firmware changed after the owner looked") {
        const auto at = guest.image.locate(psp::Gpa{0xFFFFE000 + 100}, 16)[0].at;
        host.space.at(at, 1)[0] ^= 1;
        auto created = attest::create_session(*platform_verdict.pdh, policy.session_policy(), "test");
        GuestLaunch launched{host.firmware, host.asids, guest.image, created.offer, platform.build(), EvidenceKind::measurement, test::ignore};
        const auto judgement =
            attest::judge(std::move(created.session), platform, launched.evidence(), {.policy = policy, .references = references}, now());
        CHECK_FALSE(judgement.verdict.trusted());
        CHECK_FALSE(judgement.trusted.has_value());
        for (const auto& check : judgement.verdict.checks)
            CHECK_MESSAGE(check.passed == (check.check != "launch.digest"), check.check << ": " << check.detail);
        std::move(launched).destroy(test::ignore);
        CHECK(host.status().guest_count == 0);
        CHECK(host.asids.in_use() == 0);
    }
}

TEST_CASE("secret packets: another session's, an unknown slot and one that does not fit are refused before anything goes in") {
    Host host;
    TestGuest guest{host};
    const auto created = test::session_for(host, es_policy);
    attest::SecretPacketMessage good{
        .session_id = created.offer.session_id, .slot = "initrd", .offset_bytes = 0, .gpa = std::nullopt, .header = {}, .data = Bytes(16)};
    const auto refused = [&](attest::SecretPacketMessage packet) {
        GuestLaunch launched{host.firmware, host.asids, guest.image, created.offer, host.status().build, EvidenceKind::measurement, test::ignore};
        try {
            std::ignore = std::move(launched).release({packet}, test::ignore);
        } catch (const Error& error) {
            CHECK(host.status().guest_count == 0);
            return std::string{error.what()};
        }
        return std::string{"accepted"};
    };
    auto other = good;
    other.session_id[0] ^= 1;
    CHECK(refused(other) == "secret packet: is for another session");
    other = good;
    other.slot = "nowhere";
    CHECK(refused(other) == "secret packet: slot \"nowhere\" is not in the image layout");
    other = good;
    other.offset_bytes = 4096;
    CHECK(refused(other) == "secret packet: 16 bytes at offset 4096 do not fit the 4096 bytes of slot \"initrd\"");
    other = good;
    other.gpa = psp::Gpa{0x20000000};
    CHECK(refused(other) == "secret packet: is for 0x20000000, and slot \"initrd\" puts it at 0x10000000");
    CHECK(refused(good).find("BAD_MEASUREMENT (0x000B)") != std::string::npos); // the PSP itself refuses a header nobody sealed
}

TEST_CASE("image launch: policy and layout must agree about SEV-ES") {
    Host host;
    TestGuest guest{host};
    const auto created = test::session_for(host, psp::Policy::nodbg);
    CHECK_THROWS_WITH_AS(
        (GuestLaunch{host.firmware, host.asids, guest.image, created.offer, host.status().build, EvidenceKind::measurement, test::ignore}),
        "the image layout has vCPUs with SEV-ES register state, and the policy does not ask for SEV-ES", Error);
}

TEST_CASE("platform evidence: the endorsement of another chip is refused") {
    Host host, other;
    CHECK_THROWS_WITH_AS(platform_evidence(host.firmware, other.endorsement(), 0), doctest::Contains("endorsement is of another chip"), Error);
    CHECK(platform_evidence(host.firmware, std::nullopt, 0).chain.size() == 4 * 2084);
    CHECK(platform_evidence(host.firmware, host.endorsement(), 0).chain.size() == 4 * 2084 + 2 * 832);
}
